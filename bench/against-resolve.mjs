/** Module hook: @subflow/* is what another checkout has built. */
import { pathToFileURL } from 'node:url';

let parentURL;

export function initialize({ directory }) {
  parentURL = pathToFileURL(`${directory}/package.json`).href;
}

export function resolve(specifier, context, next) {
  return next(specifier, specifier.startsWith('@subflow/') ? { ...context, parentURL } : context);
}
