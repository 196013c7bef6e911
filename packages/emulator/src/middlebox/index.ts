/** The catalogue of middleboxes: what paths do to Multipath TCP (RFC 8684 §6; Honda et al., IMC 2011; Hesmans et al., CoNEXT 2013). */
export { attachMiddlebox } from './box.ts';
export type { BoxContext, Middlebox, MiddleboxFactory } from './box.ts';
export { acknowledgeProactively, injectReset, resetMultipath, transparentProxy } from './active.ts';
export { clearOptions, dropUnknownOptions, reflectOptions, stripMultipath, stripOptions, swapOptions } from './options.ts';
export type { Where } from './options.ts';
export { coalesceSegments, dropHoles, splitSegments } from './segments.ts';
export { resizePayload, rewritePayload, rewriteSequence } from './translate.ts';
export { translateAddresses } from './nat.ts';
export {
  clampMss,
  clampWindow,
  clearDontFragment,
  clearFlags,
  editSegments,
  removeFromSyn,
  rewriteDscp,
  rewriteEcn,
  rewriteIdentification,
  rewriteKeys,
  rewriteTtl,
  shiftTimestamps,
  stripKinds,
  stripSubtypes,
} from './headers.ts';
export type { Direction } from './headers.ts';
export { MIDDLEBOXES } from './catalogue.ts';
export type { BoxPlace, CatalogueRow } from './catalogue.ts';
