/** The backend of sockets and servers that name none. */
import type { Backend } from './backend.ts';
import { kernelBackend } from './kernel/backend.ts';

let chosen: Backend = kernelBackend;

export function defaultBackend(): Backend {
  return chosen;
}

export function setDefaultBackend(backend: Backend): void {
  chosen = backend;
}
