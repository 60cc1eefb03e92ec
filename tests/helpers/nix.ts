/**
 * A laboratory of real Nix: builds closures in a chroot store, copies them to signed caches, and realises them in
 * fresh stores. Each laboratory has its own HOME, because Nix keeps its caches of narinfo answers there.
 */

import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Longest run of one Nix command. */
const commandTimeoutMs = 120_000;

export type CacheCompression = 'xz' | 'zstd' | 'none' | 'bzip2' | 'br' | 'gzip';

/** Why these tests cannot run here, or `false` when they can: the shape of tap's `skip`. */
export function nixMissing(): string | false {
  try {
    execFileSync('nix-store', ['--version'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'nix-bin is not installed';
  }
}

export interface RealiseOptions {
  /** Name of the store below the laboratory; created when it does not exist. */
  store: string;
  path: string;
  substituters: string[];
  signal?: AbortSignal;
  /** Further `--option NAME VALUE` pairs. */
  options?: Record<string, string>;
  /** Says what would be fetched. */
  dryRun?: boolean;
  /** Name of a HOME of its own below the laboratory, for a Nix that remembers nothing of what others were answered. */
  home?: string;
}

export class NixLab {
  readonly dir: string;
  readonly publicKey: string;
  readonly secretKeyFile: string;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(dir: string, publicKey: string, environment: NodeJS.ProcessEnv) {
    this.dir = dir;
    this.publicKey = publicKey;
    this.secretKeyFile = join(dir, 'cache.secret');
    this.#environment = environment;
  }

  static async open(): Promise<NixLab> {
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-nix-'));
    const home = join(dir, 'home');
    await mkdir(home);
    const environment: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      HOME: home,
      NIX_CONFIG: [
        'experimental-features = nix-command flakes',
        'sandbox = false',
        'build-users-group =',
        'substituters =',
        'connect-timeout = 5',
      ].join('\n'),
    };
    const secret = join(dir, 'cache.secret');
    const publicFile = join(dir, 'cache.public');
    await run('nix-store', ['--generate-binary-cache-key', 'lab.example-1', secret, publicFile], {
      env: environment,
    });
    return new NixLab(dir, (await readFile(publicFile, 'utf8')).trim(), environment);
  }

  async close(): Promise<void> {
    // Nix makes store paths read-only.
    await run('chmod', ['-R', 'u+w', this.dir]).catch(() => undefined);
    await rm(this.dir, { recursive: true, force: true });
  }

  /**
   * Builds a chain of `count` derivations in store `build`; each refers to the one before it and to the one in the
   * middle before it. Content is random, from about a kilobyte up; the last holds `largeBytes`. Returns their store
   * paths in order.
   */
  async buildChain(count: number, largeBytes: number): Promise<string[]> {
    const expression = join(this.dir, `chain-${count}.nix`);
    await writeFile(expression, chainExpression(count, largeBytes));
    const { stdout } = await this.#nix('nix-build', [
      '--store',
      this.#storeDir('build'),
      expression,
      '--no-out-link',
      '--option',
      'sandbox-paths',
      ['/bin', '/lib', '/lib64', '/usr'].filter((path) => existsSync(path)).join(' '),
    ]);
    const last = stdout.trim();
    const closure = await this.closure('build', last);
    const byNumber = (path: string): number => Number(path.slice(path.lastIndexOf('-') + 1));
    return closure.sort((a, b) => byNumber(a) - byNumber(b));
  }

  /** Adds a directory as a content-addressed path to store `build`. */
  async addPath(directory: string, name: string): Promise<string> {
    const { stdout } = await this.#nix('nix', [
      'store',
      'add-path',
      '--store',
      this.#storeDir('build'),
      directory,
      '--name',
      name,
    ]);
    return stdout.trim();
  }

  /** Adds a file as a content-addressed path to store `build`. */
  async addFile(file: string): Promise<string> {
    const { stdout } = await this.#nix('nix', [
      'store',
      'add-file',
      '--store',
      this.#storeDir('build'),
      file,
    ]);
    return stdout.trim();
  }

  /** Evaluates an expression to a string, in store `build`. */
  async evaluate(expression: string): Promise<string> {
    const args = ['eval', '--raw', '--impure', '--store', this.#storeDir('build'), '--expr', expression];
    const { stdout } = await this.#nix('nix', args);
    return stdout.trim();
  }

  async closure(store: string, path: string): Promise<string[]> {
    const { stdout } = await this.#nix('nix-store', ['--store', this.#storeDir(store), '-qR', path]);
    return stdout.trim().split('\n');
  }

  /** Copies the closure of `path` from store `build` into the cache directory; paths already there stay as they are. */
  async copyToCache(
    path: string,
    cacheDir: string,
    compression: CacheCompression,
    sign = true,
  ): Promise<void> {
    const parameters = new URLSearchParams({ compression, 'write-nar-listing': '1' });
    if (sign) parameters.set('secret-key', this.secretKeyFile);
    await this.#nix('nix', [
      'copy',
      '--store',
      this.#storeDir('build'),
      '--to',
      `file://${cacheDir}?${parameters}`,
      path,
    ]);
    // nginx runs as another user when the tests run as root.
    await chmod(this.dir, 0o755);
  }

  /** Realises `path` in `store` from the substituters alone. Rejects with Nix's standard error when it fails. */
  async realise(options: RealiseOptions): Promise<string> {
    const { stderr } = await this.#nix(
      'nix-store',
      [
        '--store',
        this.#storeDir(options.store),
        '--realise',
        options.path,
        ...(options.dryRun === true ? ['--dry-run'] : []),
        '--option',
        'substituters',
        options.substituters.join(' '),
        '--option',
        'trusted-public-keys',
        this.publicKey,
        ...Object.entries(options.options ?? {}).flatMap(([name, value]) => ['--option', name, value]),
      ],
      options.signal,
      options.home,
    );
    return stderr;
  }

  /** Takes a store away, or a HOME. */
  async remove(name: string): Promise<void> {
    const dir = join(this.dir, name);
    // Nix makes store paths read-only.
    if (process.getuid?.() !== 0) await run('chmod', ['-R', 'u+w', dir]).catch(() => undefined);
    await rm(dir, { recursive: true, force: true });
  }

  /** `nix store verify` over everything in the store: contents and signatures. */
  async verify(store: string): Promise<void> {
    await this.#nix('nix', [
      'store',
      'verify',
      '--all',
      '--store',
      this.#storeDir(store),
      '--option',
      'trusted-public-keys',
      this.publicKey,
    ]);
  }

  /** What the store has noted as the hashes of the paths' NARs: those of their contents, when `verify` went through. */
  async narHashes(store: string, paths: readonly string[]): Promise<string[]> {
    const { stdout } = await this.#nix('nix-store', [
      '--store',
      this.#storeDir(store),
      '-q',
      '--hash',
      ...paths,
    ]);
    return stdout.trim().split('\n');
  }

  #storeDir(store: string): string {
    return join(this.dir, `store-${store}`);
  }

  async #nix(
    program: string,
    args: string[],
    signal?: AbortSignal,
    home = 'home',
  ): Promise<{ stdout: string; stderr: string }> {
    return run(program, args, {
      env: { ...this.#environment, HOME: join(this.dir, home) },
      timeout: commandTimeoutMs,
      maxBuffer: 64 << 20,
      ...(signal ? { signal } : {}),
    });
  }
}

function chainExpression(count: number, largeBytes: number): string {
  return `
let
  last = ${count - 1};
  size = n: if n == last then ${largeBytes} else 500 + n * n * n * 40;
  make = n: references: derivation {
    name = "link-\${toString n}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" ''
      PATH=/bin:/usr/bin
      mkdir -p $out/share/empty
      head -c \${toString (size n)} /dev/urandom > $out/share/data
      echo \${toString references} > $out/references
      ln -s references $out/link
      printf '#!/bin/sh\\n' > $out/run
      chmod +x $out/run
    '' ];
  };
  grow = n: made:
    if n > last then made
    else grow (n + 1) (made ++ [
      (make n (if n == 0 then [ ] else [ (builtins.elemAt made (n - 1)) (builtins.elemAt made (n / 2)) ]))
    ]);
in builtins.elemAt (grow 0 [ ]) last
`;
}
