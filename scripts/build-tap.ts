/** tap compiles its test class from the plugins it is configured with; after `npm ci` it is the one for the defaults. */

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Builds when the compiled class is missing or still has the TypeScript plugin, which .taprc switches off. */
export async function buildTapIfNeeded(root: string, say: (text: string) => void): Promise<void> {
  const built = join(root, 'node_modules', '@tapjs', 'test', 'test-built', 'dist', 'esm', 'index.js');
  const plugins = join(root, '.tap', 'plugins');
  if (existsSync(built) && existsSync(plugins) && !readFileSync(built, 'utf8').includes('Plugin_typescript'))
    return;
  say('Building tap for the plugins of .taprc');
  const build = spawn(join(root, 'node_modules', '.bin', 'tap'), ['build'], { cwd: root, stdio: 'inherit' });
  await new Promise((resolve) => build.once('close', resolve));
}
