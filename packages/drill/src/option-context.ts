/** What options are built from and compared with: fields of the script's, the keys and numbers of the conversation. */
import { dssPseudoHeader, finish, sum } from '@subflow/wire';
import type { KeyMaterial } from '@subflow/stack';
import { joined, toBytes } from './keys.ts';
import type { Symbols } from './keys.ts';
import { ScriptError } from './script.ts';
import type { Expression, OptionName, OptionSpec } from './script.ts';

/** What is known where an option stands. */
export interface OptionContext {
  symbols: Symbols;
  /** Key of the packet's sender and receiver, as far as known. */
  sender: KeyMaterial | null;
  receiver: KeyMaterial | null;
  payload: Uint8Array;
  flow: { senderNonce: number; receiverNonce: number };
  timestampEcho: number;
  /** The sequence number that what this packet acknowledges is counted from. */
  acknowledged: number;
  resolve(address: Expression & { kind: 'address' }): Uint8Array;
}

/** The options of Multipath TCP. */
export type MptcpName = Exclude<OptionName, 'nop' | 'eol' | 'mss' | 'wscale' | 'sackok' | 'ts' | 'sack' | 'fo'>;

export function field(spec: OptionSpec, name: string): Expression | undefined {
  return spec.fields.get(name)?.[0];
}

/** Not written, or written as `auto`: whatever it is. */
export function isAuto(spec: OptionSpec, name: string): boolean {
  return (field(spec, name)?.kind ?? 'auto') === 'auto';
}

/** A number that stands in the script as such. Throws {@link ScriptError} when it does not fit. */
export function plain(spec: OptionSpec, name: string, most = 0xffffffff): number {
  const expression = field(spec, name);
  const value = expression?.kind === 'number' ? expression.value : 0n;
  if (expression !== undefined && value > BigInt(most))
    throw new ScriptError('SCRIPT_SYNTAX', expression.place, `${spec.written} ${value}; expected at most ${most}`);
  return Number(value);
}

/** Version 1 where none is written. */
export function versionIn(spec: OptionSpec): number {
  return spec.fields.has('version') ? plain(spec, 'version') : 1;
}

export function flagsIn(spec: OptionSpec): number {
  return (spec.fields.get('flags') ?? []).reduce((total, flag) => total | (flag.kind === 'number' ? Number(flag.value) : 0), 0);
}

export function backupIn(spec: OptionSpec, symbols: Symbols): number {
  return spec.fields.has('backup') ? Number(symbols.number(field(spec, 'backup'), 1n) & 1n) : 0;
}

/** The form of DATA_ACK and data sequence number that is written; null: none. */
export function positionsIn(spec: OptionSpec): { ack: 'dack8' | 'dack4' | null; dsn: 'dsn8' | 'dsn4' | null } {
  return {
    ack: spec.fields.has('dack8') ? 'dack8' : spec.fields.has('dack4') ? 'dack4' : null,
    dsn: spec.fields.has('dsn8') ? 'dsn8' : spec.fields.has('dsn4') ? 'dsn4' : null,
  };
}

export function addressIn(spec: OptionSpec): (Expression & { kind: 'address' }) | null {
  const expression = field(spec, 'addr');
  return expression?.kind === 'address' ? expression : null;
}

export function wantsChecksum(spec: OptionSpec): boolean {
  return spec.words.has('cs') || spec.fields.has('cksum');
}

/** The checksum of a mapping, over what of it is in this packet (RFC 8684 §3.3.1). */
export function rightChecksum(dsn: { high: number; low: number }, ssn: number, length: number, payload: Uint8Array): number {
  return finish(dssPseudoHeader(dsn.high, dsn.low, ssn | 0, length) + sum(payload, 0, Math.min(payload.length, length)));
}

/** The HMAC of a join as it is written, or as it must be. Throws {@link ScriptError} while the keys are unknown. */
export function hmacIn(spec: OptionSpec, context: OptionContext, length: number): Uint8Array {
  const given = field(spec, 'sender_hmac') ?? field(spec, 'hmac');
  if (given !== undefined && given.kind !== 'auto') return toBytes(context.symbols.number(given, 0n), length);
  if (context.sender === null || context.receiver === null)
    throw new ScriptError('SCRIPT_SYNTAX', spec.place, 'the HMAC needs both keys, and MP_CAPABLE has not given them');
  return context.symbols.joinHmac(
    { own: context.sender, other: context.receiver, ownNonce: context.flow.senderNonce, otherNonce: context.flow.receiverNonce },
    length,
  );
}

/** The IDSN as a 64-bit number: positions of the script count from it. */
export function base(key: KeyMaterial | null): bigint {
  return key === null ? 0n : joined({ high: key.idsnHigh, low: key.idsnLow });
}
