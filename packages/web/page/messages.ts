/** What the page and the playground's worker say to each other. */
import type { PlayAction, PlaySetup, Progress } from '@subflow/web/play';

export type ToWorker =
  | { do: 'start'; setup: PlaySetup }
  /** Emulated seconds a second; 0 stands still. */
  | { do: 'speed'; speed: number }
  | { do: 'step' }
  | { do: 'act'; action: Omit<PlayAction, 'at'> }
  | { do: 'describe'; number: number }
  | { do: 'pcapng' };

export interface PacketRow {
  number: number;
  at: number;
  path: number;
  forward: boolean;
  length: number;
  text: string;
}

export type FromWorker =
  | { type: 'progress'; progress: Progress; rows: PacketRow[]; behind: boolean }
  | { type: 'acted'; action: PlayAction }
  | { type: 'description'; title: string; lines: string[] }
  | { type: 'pcapng'; bytes: Uint8Array }
  | { type: 'error'; message: string };
