/** A process that runs seeds: takes `[first, count]` from its parent, reports each seed. */
import { runSeed } from './run-seed.ts';

process.on('message', ([first, count]: [number, number]) => {
  for (let seed = first; seed < first + count; seed++) {
    const { problems, summary, bytes, virtualSeconds } = runSeed(seed);
    process.send!({ seed, problems, summary, bytes, virtualSeconds });
  }
});
process.on('disconnect', () => process.exit(0));
