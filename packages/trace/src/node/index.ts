/** Captures in files, pipes and on interfaces. */
export { CaptureInput } from './input.ts';
export type { InputOptions } from './input.ts';
export { INTERFACES_PER_FILE, readCaptures } from './read.ts';
export type { Damage, OnFrame, ReadOptions, ReadResult } from './read.ts';
export { htmlReport } from './html.ts';
export type { HtmlInput } from './html.ts';
export { parquetOf } from './parquet.ts';
