/**
 * What the RFCs ask for and what known implementations do, step by step, as data. A table of one's own is the same shape,
 * read from JSON or YAML (`--table FILE`).
 */
import type { VersionNumber } from '@subflow/stack';
import { ProbeError } from '../errors.ts';

/** Outcomes of one implementation by step; several where they depend on its settings. */
export interface KnownTable {
  name: string;
  version: VersionNumber;
  outcomes: Readonly<Record<string, readonly string[]>>;
}

interface Requirement {
  section: string;
  text: string;
  outcomes: readonly string[];
}

export interface Judgement {
  judgement: 'conforms' | 'known deviation' | 'new deviation' | 'not run';
  /** What the RFC asks for. */
  requires: { section: string; text: string; outcomes: readonly string[] } | null;
  known: { name: string; outcomes: readonly string[]; agrees: boolean }[];
}

const UNJUDGED: ReadonlySet<string> = new Set(['not-run', 'not-applicable', 'unsteady']);

/** Compares an outcome with the RFC and with every implementation known. */
export function judge(id: string, version: VersionNumber, outcome: string, tables: readonly KnownTable[]): Judgement {
  const requirement = (version === 1 ? REQUIREMENTS_1 : REQUIREMENTS_0)[id] ?? REQUIREMENTS_BOTH[id] ?? null;
  const known = [...KNOWN, ...tables]
    .filter((table) => table.version === version && table.outcomes[id] !== undefined)
    .map((table) => ({ name: table.name, outcomes: table.outcomes[id]!, agrees: table.outcomes[id]!.includes(outcome) }));
  const conforms = requirement === null || requirement.outcomes.includes(outcome);
  const judgement = UNJUDGED.has(outcome) ? 'not run' : conforms ? 'conforms' : known.some((one) => one.agrees) ? 'known deviation' : 'new deviation';
  return { judgement, requires: requirement, known };
}

/** Reads a table. Throws {@link ProbeError} `BAD_TABLE`, naming what is wrong. */
export function readTable(value: unknown): KnownTable {
  const table = value as Partial<KnownTable> | null;
  if (typeof table?.name !== 'string') throw new ProbeError('BAD_TABLE', `a table's name is ${JSON.stringify(table?.name)}; expected a text`);
  if (table.version !== 0 && table.version !== 1) throw new ProbeError('BAD_TABLE', `version ${JSON.stringify(table.version)} in table "${table.name}"; expected 0 or 1`);
  for (const [id, list] of Object.entries(table.outcomes ?? {})) {
    if (!Array.isArray(list) || list.some((one) => typeof one !== 'string')) {
      throw new ProbeError('BAD_TABLE', `outcomes of "${id}" in table "${table.name}" are ${JSON.stringify(list)}; expected a list of texts`);
    }
  }
  return { name: table.name, version: table.version, outcomes: table.outcomes ?? {} };
}

const need = (section: string, text: string, ...outcomes: string[]): Requirement => ({ section, text, outcomes });

const REQUIREMENTS_BOTH: Readonly<Record<string, Requirement>> = {};
const REQUIREMENTS_1: Readonly<Record<string, Requirement>> = { capable: need('RFC 8684 §3.1', 'a server that speaks it answers MP_CAPABLE with its key', 'v1') };
const REQUIREMENTS_0: Readonly<Record<string, Requirement>> = { capable: need('RFC 6824 §3.1', 'a server that speaks it answers MP_CAPABLE with its key', 'v0') };

export const KNOWN: readonly KnownTable[] = [];
