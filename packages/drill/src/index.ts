/** Floor 3: packetdrill scripts against the stack in virtual time. Pure. */
export { runDrill } from './runner.ts';
export type { DrillResult, TraceLine } from './runner.ts';
export { parseScript } from './parser.ts';
export { ScriptError } from './script.ts';
export type { Script, ScriptEvent } from './script.ts';
