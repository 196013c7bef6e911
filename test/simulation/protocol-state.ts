/**
 * The protocol state of a connection as a list of values, so that two moments can be compared: every own field of the
 * connection, its subflows, their control blocks, and whatever these hold, but for the few named here.
 */

/** Fields that lead out of the connection: to its host, to what the host shares among connections. */
const OUTSIDE = ['host', 'context', 'interface', 'chain', 'pool'] as const;
/** What counts what arrived. */
const COUNTERS = ['segmentsReceived'] as const;
/** That an answer is owed, what it will say, and where the timer table has filed the block: a discarded segment may be answered. */
const ANSWERS = ['ackNow', 'queued', 'dsackLeft', 'dsackRight', 'timerIndex', 'timerAt', 'answerBudgets'] as const;

export const LEFT_OUT: ReadonlySet<string> = new Set([...OUTSIDE, ...COUNTERS, ...ANSWERS]);

/** Beyond so many objects (a long retransmission queue) nothing is looked at: both moments stop at the same place. */
const MOST_OBJECTS = 200;

export interface ProtocolState {
  objects: object[];
  /** The names of the fields of each object, and the values of all of them one after the other. */
  names: (readonly string[])[];
  values: unknown[];
}

/** Arrays of numbers (payload, hashes) are compared by identity only, as are functions. */
export function protocolState(roots: readonly object[]): ProtocolState {
  const objects = [...roots];
  const seen = new Set<unknown>(roots);
  const names: (readonly string[])[] = [];
  const values: unknown[] = [];
  for (let i = 0; i < objects.length && i < MOST_OBJECTS; i++) {
    const object = objects[i]! as Record<string, unknown>;
    const keyed = object instanceof Map || object instanceof Set;
    const fields = keyed ? [...object.keys()].map(String) : Object.keys(object);
    const members: unknown[] | null = keyed ? [...object.values()] : null;
    names.push(fields);
    for (let k = 0; k < fields.length; k++) {
      const name = fields[k]!;
      const value = members !== null ? members[k] : LEFT_OUT.has(name) ? null : object[name];
      values.push(value);
      if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || seen.has(value)) continue;
      seen.add(value);
      objects.push(value);
    }
  }
  return { objects, names, values };
}

/** What differs, as `Owner.field before → after`. */
export function differences(before: ProtocolState, after: ProtocolState): string[] {
  const out: string[] = [];
  for (let i = 0, at = 0; i < before.names.length; i++) {
    const was = before.names[i]!;
    const owner = before.objects[i]!.constructor?.name ?? 'object';
    // With a field or an object more or less, all that follows is shifted: the first difference is the telling one.
    if (before.objects[i] !== after.objects[i] || was.length !== after.names[i]!.length) return [...out, `${owner} with ${was.length} fields → others`];
    for (const name of was) {
      if (!Object.is(before.values[at], after.values[at])) out.push(`${owner}.${name} ${show(before.values[at])} → ${show(after.values[at])}`);
      at++;
    }
  }
  return out;
}

function show(value: unknown): string {
  if (typeof value === 'object' && value !== null) return value.constructor?.name ?? 'object';
  return String(value);
}
