/** The TCP options that are understood, and what may stand in each: one row is one option. Whatever is not here is refused. */
import type { OptionName, OptionSpec } from './script.ts';

/**
 * What stands behind a word: nothing; `=` and a value; a value or nothing, which is `auto`; a number, with or without `=`; a number or
 * `auto`; the name of an address in brackets; values in brackets; the same with definitions (`ckey=2`); names of flags.
 */
export type Item = 'word' | 'value' | 'value-or-auto' | 'number' | 'number-or-auto' | 'address' | 'list' | 'keys' | 'flags';

export interface OptionForm {
  name: OptionName;
  /** Other spellings, in small letters. */
  aliases?: readonly string[];
  /** What stands without a word, right after the name; it must be there unless it is a cookie. */
  first?: 'number' | 'blocks' | 'cookie';
  items: Readonly<Record<string, Item>>;
  /** v0, v1 … */
  version?: true;
  /** Words of which no two go together. */
  either?: readonly (readonly string[])[];
  /** Words of which one must be there, in packets to the host (`in`) or in all. */
  needs?: readonly { words: readonly string[]; where: 'in' | 'all' }[];
}

const HMAC = { sender_hmac: 'value-or-auto', hmac: 'value-or-auto' } as const;
const BACKUP = { backup: 'value-or-auto' } as const;

export const OPTION_FORMS: readonly OptionForm[] = [
  { name: 'nop', items: {} },
  { name: 'eol', items: {} },
  { name: 'mss', first: 'number', items: {} },
  { name: 'wscale', first: 'number', items: {} },
  { name: 'sackok', items: {} },
  {
    name: 'ts',
    items: { val: 'number', ecr: 'number-or-auto' },
    needs: [{ words: ['val'], where: 'all' }],
  },
  { name: 'sack', first: 'blocks', items: {} },
  { name: 'fo', first: 'cookie', items: {} },
  {
    name: 'mp_capable',
    aliases: ['mpcapable', 'mpcap'],
    version: true,
    items: { flags: 'flags', key: 'keys', nokey: 'word', mpcdatalen: 'number', cs: 'word', nocs: 'word', cksum: 'value-or-auto' },
    either: [
      ['key', 'nokey'],
      ['cs', 'nocs', 'cksum'],
    ],
    needs: [{ words: ['key', 'nokey'], where: 'all' }],
  },
  {
    name: 'mp_join_syn',
    aliases: ['mp_join'],
    items: { ...BACKUP, address_id: 'value-or-auto', token: 'value-or-auto' },
    needs: [{ words: ['token'], where: 'in' }],
  },
  { name: 'mp_join_syn_ack', items: { ...BACKUP, address_id: 'value-or-auto', ...HMAC }, either: [['sender_hmac', 'hmac']] },
  { name: 'mp_join_ack', items: HMAC, either: [['sender_hmac', 'hmac']] },
  {
    name: 'dss',
    items: {
      dack8: 'value-or-auto',
      dack4: 'value-or-auto',
      dsn8: 'value-or-auto',
      dsn4: 'value-or-auto',
      ssn: 'value-or-auto',
      dll: 'value-or-auto',
      cs: 'word',
      nocs: 'word',
      cksum: 'value-or-auto',
      fin: 'word',
    },
    either: [
      ['dack8', 'dack4'],
      ['dsn8', 'dsn4'],
      ['cs', 'nocs', 'cksum'],
    ],
    needs: [{ words: ['dack8', 'dack4', 'dsn8', 'dsn4'], where: 'all' }],
  },
  {
    name: 'add_address',
    aliases: ['add_addr', 'add_addr4', 'add_addr6'],
    items: { address_id: 'value-or-auto', addr: 'address', port: 'value', hmac: 'value-or-auto', echo: 'word' },
    needs: [{ words: ['addr'], where: 'in' }],
  },
  {
    name: 'remove_address',
    aliases: ['remove_addr', 'rem_addr'],
    items: { address_id: 'list' },
    needs: [{ words: ['address_id'], where: 'all' }],
  },
  { name: 'mp_prio', items: { ...BACKUP, address_id: 'value' } },
  { name: 'mp_fail', items: { dsn8: 'value' }, needs: [{ words: ['dsn8'], where: 'all' }] },
  { name: 'mp_fastclose', aliases: ['mp_fclose'], items: { receiver_key: 'value-or-auto' } },
  { name: 'mp_reset', aliases: ['mp_tcprst', 'tcprst'], first: 'number', items: { transient: 'word' } },
];

const BY_NAME: ReadonlyMap<string, OptionForm> = new Map(OPTION_FORMS.flatMap((form) => [form.name, ...(form.aliases ?? [])].map((name) => [name, form])));

export const OPTION_NAMES: readonly string[] = [...BY_NAME.keys()];

/** The flags of MP_CAPABLE (RFC 8684 §3.1). */
export const CAPABLE_FLAGS: Readonly<Record<string, number>> = {
  flag_a: 0x80,
  flag_b: 0x40,
  flag_c: 0x20,
  flag_d: 0x10,
  flag_e: 8,
  flag_f: 4,
  flag_g: 2,
  flag_h: 1,
};

/** Case is a matter of taste. */
export function optionForm(written: string): OptionForm | undefined {
  return BY_NAME.get(written.toLowerCase());
}

export function has(spec: OptionSpec, word: string): boolean {
  return spec.words.has(word) || spec.fields.has(word);
}
