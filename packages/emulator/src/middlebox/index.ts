/** The catalogue of middleboxes: what paths do to Multipath TCP (RFC 8684 §6; Honda et al., IMC 2011; Hesmans et al., CoNEXT 2013). */
export { attachMiddlebox } from './box.ts';
export type { BoxContext, Middlebox, MiddleboxFactory } from './box.ts';
export { acknowledgeProactively, injectReset, transparentProxy } from './active.ts';
export { clearOptions, dropUnknownOptions, reflectOptions, stripMultipath, stripOptions, swapOptions } from './options.ts';
export type { Where } from './options.ts';
export { coalesceSegments, dropHoles, splitSegments } from './segments.ts';
export { resizePayload, rewritePayload, rewriteSequence, translateAddresses } from './translate.ts';
