/** The playground's engine: pure, the same in a page's worker and in a test. */
export { LESSONS } from './lessons.ts';
export type { Lesson } from './lessons.ts';
export { BIN, CONTROLLER_NAMES, COUPLED_NAMES, LONGEST, MIDDLEBOX_NAMES, SCHEDULER_NAMES, SERVICE_NAMES } from './names.ts';
export { PlayRun } from './run.ts';
export type { Decision, PlayPacket, Progress, SequencePoint, Snapshot } from './run.ts';
export { checkSetup, DEFAULT_SETUP, LIMITS, PATH_MANAGERS, SetupError, setupFromText, setupToText, setupToYaml, TRAFFIC } from './setup.ts';
export type { PlayAction, PlayPath, PlaySetup } from './setup.ts';
