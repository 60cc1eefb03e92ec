/**
 * Questions to the process of the DHT node, and their answers: a few at once, the others in their turn. Each is answered within the
 * time that a lookup may take, or fails with the process.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { DhtLimits } from './dht-limits.ts';
import type { DhtQuestion, DhtReply } from './dht-messages.ts';

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;

interface Request {
  readonly question: DhtQuestion;
  resolve(reply: DhtReply): void;
  reject(error: unknown): void;
}

export class DhtRequests {
  readonly #limits: Pick<DhtLimits, 'requestsUnderWayMax' | 'requestsWaitingMax'>;
  readonly #send: (question: DhtQuestion) => void;
  readonly #waiting = new Set<Request>();
  readonly #underWay = new Map<number, Request>();
  #lastId = 0;
  #state: 'stopped' | 'running' | 'closed' = 'stopped';

  constructor(
    limits: Pick<DhtLimits, 'requestsUnderWayMax' | 'requestsWaitingMax'>,
    send: (question: DhtQuestion) => void,
  ) {
    this.#limits = limits;
    this.#send = send;
  }

  /** Throws dht-failed, and aborted when `signal` says so: the answer to it is then nobody's. */
  async ask(question: Unnumbered<DhtQuestion>, signal?: AbortSignal): Promise<DhtReply> {
    if (signal?.aborted === true) throw givenUp();
    if (this.#state === 'closed') throw failed('it is closed');
    if (this.#waiting.size >= this.#limits.requestsWaitingMax) throw failed('too much is asked of it');
    const { promise, resolve, reject } = Promise.withResolvers<DhtReply>();
    const numbered = { ...question, id: ++this.#lastId } as DhtQuestion;
    const request: Request = { question: numbered, resolve, reject };
    const onAbort = (): void => {
      // One that is under way goes on counting as such until the child has done with it.
      this.#waiting.delete(request);
      reject(givenUp());
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#waiting.add(request);
    this.#sendMore();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  answered(reply: DhtReply): void {
    const request = this.#underWay.get(reply.id);
    this.#underWay.delete(reply.id);
    request?.resolve(reply);
    this.#sendMore();
  }

  /** The process listens. */
  start(): void {
    if (this.#state === 'closed') return;
    this.#state = 'running';
    this.#sendMore();
  }

  /** The process is gone. What waits is for the next one. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
    for (const { reject } of this.#underWay.values()) reject(failed('it ended'));
    this.#underWay.clear();
  }

  close(): void {
    this.#state = 'closed';
    this.stop();
    for (const { reject } of this.#waiting) reject(failed('it is closed'));
    this.#waiting.clear();
  }

  #sendMore(): void {
    for (const request of this.#waiting) {
      if (this.#state !== 'running' || this.#underWay.size >= this.#limits.requestsUnderWayMax) return;
      this.#waiting.delete(request);
      this.#underWay.set(request.question.id, request);
      this.#send(request.question);
    }
  }
}

function failed(why: string): NarswarmError {
  return new NarswarmError('dht-failed', `the DHT node gives no answer: ${why}`);
}

function givenUp(): NarswarmError {
  return new NarswarmError('aborted', 'asking the DHT was given up');
}
