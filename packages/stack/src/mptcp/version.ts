/**
 * What differs between version 0 (RFC 6824) and version 1 (RFC 8684) of Multipath TCP; the rest of the code asks this
 * object and never compares version numbers.
 */
import { sha1 } from '@noble/hashes/legacy.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { CAPABLE_FLAG } from '@subflow/wire';
import type { MpCapable, U64 } from '@subflow/wire';

export type VersionNumber = 0 | 1;

export interface MptcpVersion {
  readonly number: VersionNumber;
  /** Hash of keys and HMACs: SHA-1 (RFC 6824 §3.1) or SHA-256 (RFC 8684 §3.1). */
  readonly hash: typeof sha1 | typeof sha256;
  /** MP_CAPABLE of the SYN carries the initiator's key (RFC 6824 §3.1); in version 1 it comes with the third ACK. */
  readonly keyInSyn: boolean;
  /** MP_CAPABLE may carry a data-level length and stand for the first mapping (RFC 8684 §3.1). */
  readonly mapsWithCapable: boolean;
  /** ADD_ADDR carries an HMAC and is echoed (RFC 8684 §3.4.1). */
  readonly authenticatesAddresses: boolean;
  /** MP_PRIO may name another subflow by address id (RFC 6824 §3.3.8). */
  readonly namesPriority: boolean;
  /** Resets carry MP_TCPRST, fast close may ride on them (RFC 8684 §3.5, §3.6). */
  readonly explainsResets: boolean;
  /** Flag C of MP_CAPABLE means "no joins to the initial address" (RFC 8684 §3.1); in version 0 it is a crypto bit. */
  readonly deniesInitialAddress: boolean;
  /** A checksum that was not negotiated is ignored (RFC 6824 §3.3); version 1 closes the subflow (RFC 8684 §3.3). */
  readonly ignoresStrayChecksum: boolean;
  /** An unknown extension (flag B) drops the whole SYN (RFC 6824 §3.1); in version 1 only the option (RFC 8684 §3.1). */
  readonly dropsExtendedSyn: boolean;
}

export const VERSION_0: MptcpVersion = {
  number: 0,
  hash: sha1,
  keyInSyn: true,
  mapsWithCapable: false,
  authenticatesAddresses: false,
  namesPriority: true,
  explainsResets: false,
  deniesInitialAddress: false,
  ignoresStrayChecksum: true,
  dropsExtendedSyn: true,
};

export const VERSION_1: MptcpVersion = {
  number: 1,
  hash: sha256,
  keyInSyn: false,
  mapsWithCapable: true,
  authenticatesAddresses: true,
  namesPriority: false,
  explainsResets: true,
  deniesInitialAddress: true,
  ignoresStrayChecksum: false,
  dropsExtendedSyn: false,
};

export function versionOf(number: VersionNumber): MptcpVersion {
  return number === 0 ? VERSION_0 : VERSION_1;
}

/** MP_CAPABLE with the sender's key; with both keys. */
export type CapableWithKey = MpCapable & { senderKey: U64 };
export type ThirdAck = MpCapable & { senderKey: U64; receiverKey: U64 };

/** Whether MP_CAPABLE has an algorithm we know: bit H of C to H (RFC 6824 §3.1), of D to H (RFC 8684 §3.1). */
function knowsAlgorithm(option: MpCapable): boolean {
  return (option.flags & CAPABLE_FLAG.sha256) !== 0 && (option.flags & CAPABLE_FLAG.extensibility) === 0;
}

/** A version, and the option that offers it; in version 0 with the initiator's key. */
export interface Offer {
  readonly version: MptcpVersion;
  readonly option: MpCapable;
}

/**
 * The version in which to answer the MP_CAPABLE options of a SYN, and the option that decides it. A higher version
 * than ours is answered with ours (RFC 8684 §3.1); beside each other, the newer one wins.
 */
export function chooseVersion(options: readonly MpCapable[], accepted: readonly VersionNumber[]): Offer | null {
  if (accepted.includes(1)) {
    const option = options.find((one) => one.version >= 1 && one.senderKey === null && knowsAlgorithm(one));
    if (option !== undefined) return { version: VERSION_1, option };
  }
  if (accepted.includes(0)) {
    const option = options.find((one) => one.version === 0 && one.senderKey !== null && one.receiverKey === null && knowsAlgorithm(one));
    if (option !== undefined) return { version: VERSION_0, option };
  }
  return null;
}

/** Whether the MP_CAPABLE of a SYN+ACK accepts what we offered in this version. Our own key in it is an echo, not an answer. */
export function acceptsOffer(version: MptcpVersion, option: MpCapable, own: U64 | null): option is CapableWithKey {
  if (option.version !== version.number || option.senderKey === null || option.receiverKey !== null || !knowsAlgorithm(option)) return false;
  return own === null || (option.senderKey.high | 0) !== (own.high | 0) || (option.senderKey.low | 0) !== (own.low | 0);
}

/** Whether MP_CAPABLE is a third ACK (or first data) of this version: both keys, and an algorithm that both know (RFC 8684 §3.1). */
export function isThirdAck(version: MptcpVersion, option: MpCapable): option is ThirdAck {
  return option.version === version.number && option.senderKey !== null && option.receiverKey !== null && knowsAlgorithm(option);
}
