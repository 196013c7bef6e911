/** Floor 3: what happened in this capture? Everything here runs in a browser, too; files and interfaces are in `@subflow/trace/node`. */
export { Analyzer, POINT } from './analysis/analyzer.ts';
export type { AnalyzerOptions, PointSink, Totals } from './analysis/analyzer.ts';
export { Connection } from './analysis/connection.ts';
export { Subflow } from './analysis/subflow.ts';
export type * from './analysis/events.ts';
export { TraceError } from './errors.ts';
export type { TraceErrorCode } from './errors.ts';
export { DissectedPacket, valueText } from './dissect/packet.ts';
export { packetLine, subtypeName } from './dissect/info.ts';
export type { PacketLine } from './dissect/info.ts';
export { FIELDS, nearestField } from './dissect/fields.ts';
export { compileFilter } from './dissect/filter.ts';
export type { Filter } from './dissect/filter.ts';
export type { Field, FieldType, Value } from './dissect/values.ts';
