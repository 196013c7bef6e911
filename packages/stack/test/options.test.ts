/** Options of a host: whatever is unknown or out of range is an error at once, which names the option and what was expected. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_MPTCP_CONFIG, DEFAULT_TCP_CONFIG, Host, StackError } from '@subflow/stack';
import type { HostOptions } from '@subflow/stack';

const GROUPS = { tcp: DEFAULT_TCP_CONFIG, mptcp: DEFAULT_MPTCP_CONFIG } as const;
type Group = keyof typeof GROUPS;
/** Every option of both groups: its group, name and default. */
const ALL = (Object.keys(GROUPS) as Group[]).flatMap((group) =>
  Object.entries(GROUPS[group]).map(([key, value]): [Group, string, unknown] => [group, key, value]),
);
const NUMBERS = ALL.filter(([, , value]) => typeof value === 'number');

/** Options that are a name or something of one's own. */
const NAMED = new Set(['congestion', 'coupled', 'scheduler', 'pathManager']);

function make(options: unknown): Host {
  return new Host({ entropy: () => 4, ...(options as Partial<HostOptions>) });
}

/** What is thrown, which must be ours. */
function refusal(options: unknown): StackError {
  try {
    make(options);
  } catch (error) {
    expect(error).toBeInstanceOf(StackError);
    return error as StackError;
  }
  throw new Error(`taken: ${JSON.stringify(options)}`);
}

const anything = fc.oneof(
  fc.constantFrom<unknown>(null, true, false, '', 'cubic', '1000', Number.NaN, -1, -0.001, Number.NEGATIVE_INFINITY, [], [1], {}, { a: 1 }),
  fc.string(),
  fc.double(),
  fc.array(fc.integer()),
);

describe('every option of a host', () => {
  it.each(ALL)('%s.%s may be left out, undefined, or given as it is by default', (group, key, value) => {
    for (const given of [{}, { [key]: undefined }, { [key]: value }]) expect(make({ [group]: given })).toBeInstanceOf(Host);
  });

  it.each(ALL.filter(([, key]) => !NAMED.has(key)))('%s.%s of another type is refused by name', (group, key, value) => {
    fc.assert(
      fc.property(anything, (given) => {
        fc.pre(typeof given !== typeof value || Array.isArray(given) !== Array.isArray(value));
        const error = refusal({ [group]: { [key]: given } });
        expect(error.code).toBe('BAD_OPTION');
        expect(error.message).toContain(`option ${group}.${key} `);
        expect(error.message).toContain('expected ');
      }),
      { numRuns: 40 },
    );
  });

  it.each(NUMBERS)('%s.%s is not negative and a number', (group, key) => {
    for (const given of [Number.NaN, -1, -1e-9, Number.NEGATIVE_INFINITY]) {
      const error = refusal({ [group]: { [key]: given } });
      expect([error.code, error.message.includes(`option ${group}.${key} is `)]).toEqual(['BAD_OPTION', true]);
    }
  });

  it.each([
    ['tcp', 'minRto'],
    ['tcp', 'maxRto'],
    ['tcp', 'initialRto'],
    ['tcp', 'receiveBuffer'],
    ['tcp', 'maxReceiveBuffer'],
    ['tcp', 'sendBuffer'],
    ['tcp', 'maxSendBuffer'],
    ['tcp', 'keepaliveInterval'],
  ])('%s.%s is not zero', (group, key) => {
    expect(refusal({ [group]: { [key]: 0 } }).message).toContain(`option ${group}.${key} is 0; expected a whole number above 0`);
  });

  it.each([
    [{ mptcp: { serverId: 256 } }, 'mptcp.serverId'],
    [{ mptcp: { versions: [7] } }, 'mptcp.versions'],
    [{ mptcp: { versions: [1, '0'] } }, 'mptcp.versions'],
    [{ mptcp: { acceptVersions: 1 } }, 'mptcp.acceptVersions'],
    [{ mptcp: { synCookies: 'sometimes' } }, 'mptcp.synCookies'],
    [{ mptcp: { fastclose: 'maybe' } }, 'mptcp.fastclose'],
    [{ mptcp: { scheduler: 7 } }, 'mptcp.scheduler'],
    [{ mptcp: { pathManager: 'default' } }, 'mptcp.pathManager'],
    [{ tcp: { maxReceiveBuffer: 2 ** 31 } }, 'tcp.maxReceiveBuffer'],
    [{ tcp: { receiveBuffer: 2 ** 20, maxReceiveBuffer: 2 ** 19 } }, 'tcp.receiveBuffer'],
    [{ tcp: { sendBuffer: 2 ** 21, maxSendBuffer: 2 ** 20 } }, 'tcp.sendBuffer'],
    [{ tcp: { minRto: 2_000_000, maxRto: 1_000_000 } }, 'tcp.minRto'],
    [{ eventLimit: 0 }, 'eventLimit'],
    [{ eventLimit: 'many' }, 'eventLimit'],
    [{ traceData: 1 }, 'traceData'],
    [{ entropy: 5 }, 'entropy'],
    [{ entropy: undefined }, 'entropy'],
  ])('%j is refused, and %s is named', (options, name) => {
    const error = refusal(options);
    expect([error.code, error.message.startsWith(`option ${name} is `)]).toEqual(['BAD_OPTION', true]);
  });

  it.each([
    [{ tcp: { congestion: 'reno-ish' } }, 'UNKNOWN_CONGESTION', 'reno-ish'],
    [{ mptcp: { coupled: 'lia-ish' } }, 'UNKNOWN_CONGESTION', 'lia-ish'],
    [{ mptcp: { scheduler: 'fastest' } }, 'BAD_OPTION', 'fastest'],
  ])('%j: the name is told, and the names there are', (options, code, name) => {
    const error = refusal(options);
    expect(error.code).toBe(code);
    expect(error.message).toContain(name);
    expect(error.message).toMatch(/expected .*,/);
  });

  it('an unknown key is refused in every group, whatever it is called', () => {
    const key = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.constantFrom('Nagle', 'keepalive', 'toString', 'constructor', '__proto__', 'hasOwnProperty', 'valueOf'),
    );
    fc.assert(
      fc.property(fc.constantFrom<'tcp' | 'mptcp' | ''>('tcp', 'mptcp', ''), key, anything, (group, name, value) => {
        const known = group === '' ? ['entropy', 'tcp', 'mptcp', 'traceData', 'eventLimit'] : Object.keys(GROUPS[group]);
        fc.pre(!known.includes(name));
        const inner = Object.defineProperty({}, name, { value, enumerable: true });
        const error = refusal(group === '' ? inner : { [group]: inner });
        expect(error.code).toBe('BAD_OPTION');
        expect(error.message).toContain(group === '' ? name : `${group}.${name}`);
      }),
    );
  });

  it('nothing is built before all are found good', () => {
    let asked = 0;
    expect(() => new Host({ entropy: () => asked++, tcp: { minRto: -1 } })).toThrow(StackError);
    expect(asked).toBe(0);
  });
});
