/** A program that never finishes draining. `serving` as an argument: it had said that it was ready. */

import { listenForSignals } from '../../cli/signals.ts';

const signals = listenForSignals();
if (process.argv.includes('serving')) signals.serving();
signals.signal.addEventListener('abort', () => console.log('draining'));
setInterval(() => undefined, 1000);
console.log('started');
