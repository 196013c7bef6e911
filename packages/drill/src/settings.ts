/** `--name=value`: the settings of a script that are understood. Every other one is refused. */
import { proposal } from './proposal.ts';
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { Settings } from './script.ts';

interface Setting {
  expected: string;
  /** False: not a value for it. */
  take(text: string, settings: Settings): boolean;
}

const SETTINGS: Readonly<Record<string, Setting>> = {
  tolerance_usecs: { expected: 'microseconds', take: (text, settings) => integer(text, 0, 1e9, (value) => (settings.tolerance = value)) },
  ip_version: {
    expected: 'ipv4 or ipv6',
    take: (text, settings) => {
      settings.family = text === 'ipv6' ? 6 : 4;
      return text === 'ipv4' || text === 'ipv6';
    },
  },
  mtu: { expected: '296 to 65535', take: (text, settings) => integer(text, 296, 65_535, (value) => (settings.mtu = value)) },
};

/** As packetdrill's defaults. */
export function defaultSettings(): Settings {
  return { tolerance: 4_000, family: 4, mtu: 1500 };
}

/** Takes one `--name=value`. Throws {@link ScriptError}. */
export function takeSetting(scanner: Scanner, settings: Settings): void {
  const place = scanner.skip().place();
  const [written, name, text] = scanner.expect(/--([\w-]*)(?:=(\S*))?/y, 'a setting such as --tolerance_usecs=10000');
  const setting = Object.hasOwn(SETTINGS, name!) ? SETTINGS[name!] : undefined;
  if (setting === undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `setting "${written}"; ${proposal(name!, Object.keys(SETTINGS))}`);
  if (text === undefined || !setting.take(text, settings))
    throw new ScriptError('SCRIPT_SYNTAX', place, `setting "${written}"; expected --${name}= with ${setting.expected}`);
}

function integer(text: string, low: number, high: number, take: (value: number) => void): boolean {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high) return false;
  take(value);
  return true;
}
