/** Floor 3: what happened in this capture? Everything here runs in a browser, too; files and interfaces are in `@subflow/trace/node`. */
export { Analyzer, POINT } from './analysis/analyzer.ts';
export type { AnalyzerOptions, PointSink, Totals } from './analysis/analyzer.ts';
export { Connection } from './analysis/connection.ts';
export { Subflow } from './analysis/subflow.ts';
export type * from './analysis/events.ts';
