/** The upload policy's memory, in the catalog: rows of the torrents that were ever uploaded, and of no others. */

import type { Catalog } from '../catalog/catalog.ts';
import type { UploadRecords } from '../swarm/upload/upload-ledger.ts';

export function uploadRecords(catalog: Catalog): UploadRecords {
  return {
    load(infoHash) {
      const upload = catalog.upload(infoHash);
      if (upload === undefined) return undefined;
      const { capped, ...counts } = upload;
      return { ...counts, state: capped ? 'capped' : 'swarming' };
    },
    save(records, { wait }) {
      const uploads = records.map(([infoHash, { state, ...counts }]) => {
        return [infoHash, { ...counts, capped: state === 'capped' }] as const;
      });
      const save = (): void => catalog.putUploads(uploads);
      if (!wait) return catalog.transactionIfFree(save) !== undefined;
      save();
      return true;
    },
  };
}
