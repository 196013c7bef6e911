/** What a socket's handle needs of the backend that drives its host, and what the backend needs of it: neither knows the other's file. */
import type { Host, StackEvent } from '@subflow/stack';
import type { SendChunks } from './send-chunks.ts';

export interface StackContext {
  readonly host: Host;
  readonly chunks: SendChunks;
  now(): number;
  /** Has the stack send what application calls have made ready, once this turn's calls are done. */
  kick(): void;
  /** Whether a connection of ours uses this port of an address (every address when it is unspecified). */
  portInUse(address: Uint8Array, port: number): boolean;
  register(connection: number, user: ConnectionUser): void;
  unregister(connection: number): void;
}

export interface ConnectionUser {
  event(event: StackEvent): void;
  /** The stack is stopped: nothing will ever come. */
  abandon(): void;
}
