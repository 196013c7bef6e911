/** The kinds of values that fields have, and how they are written: as Wireshark writes them with `-T fields`. */

export type FieldType = 'uint' | 'hex' | 'uint64' | 'boolean' | 'ipv4' | 'ipv6' | 'ether' | 'bytes' | 'string' | 'time' | 'number' | 'none' | 'protocol';

/** 64-bit values are bigint; addresses and bytes are `Uint8Array`; a field without a value of its own is `true`. */
export type Value = number | bigint | string | boolean | Uint8Array;

export interface Field {
  name: string;
  type: FieldType;
  /** What it is, in a few words. */
  title: string;
  /** Digits of a hexadecimal value. */
  digits?: number;
}

export function hexOf(bytes: Uint8Array, separator = ''): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(separator);
}
