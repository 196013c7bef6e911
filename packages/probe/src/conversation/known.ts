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
    .map((table) => ({ name: table.name, outcomes: table.outcomes[id]!, agrees: fits(table.outcomes[id]!, outcome) }));
  const conforms = requirement === null || fits(requirement.outcomes, outcome);
  // Nobody there is no deviation.
  const absent = id === 'capable' && (outcome === 'refused' || outcome === 'silence');
  const judgement = UNJUDGED.has(outcome) || absent ? 'not run' : conforms ? 'conforms' : known.some((one) => one.agrees) ? 'known deviation' : 'new deviation';
  return { judgement, requires: requirement, known };
}

/** Reads a table. Throws {@link ProbeError} `BAD_TABLE`, naming what is wrong. */
export function readTable(value: unknown): KnownTable {
  const table = value as Partial<KnownTable> | null;
  if (typeof table?.name !== 'string') throw new ProbeError('BAD_TABLE', `a table's name is ${JSON.stringify(table?.name)}; expected a text`);
  if (table.version !== 0 && table.version !== 1)
    throw new ProbeError('BAD_TABLE', `version ${JSON.stringify(table.version)} in table "${table.name}"; expected 0 or 1`);
  for (const [id, list] of Object.entries(table.outcomes ?? {})) {
    if (!Array.isArray(list) || list.some((one) => typeof one !== 'string')) {
      throw new ProbeError('BAD_TABLE', `outcomes of "${id}" in table "${table.name}" are ${JSON.stringify(list)}; expected a list of texts`);
    }
  }
  return { name: table.name, version: table.version, outcomes: table.outcomes ?? {} };
}

/** `reset*` stands for every reset: `*` is any text. */
function fits(patterns: readonly string[], outcome: string): boolean {
  return patterns.some(
    (pattern) => pattern === outcome || (pattern.includes('*') && new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`).test(outcome)),
  );
}

function escaped(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
}

const need = (section: string, text: string, ...outcomes: string[]): Requirement => ({ section, text, outcomes });
const MP_FAIL_TEXT = 'the receiver reports the failure with MP_FAIL';
const UNMAPPED = 'what has no mapping cannot be delivered; the subflow is broken and is reset';
const JOIN_REFUSED = 'after a fallback there is no connection that could be joined';

/** What is asked of both versions; sections are those of RFC 8684, where RFC 6824 has nearly all of it too. */
const REQUIREMENTS_BOTH: Readonly<Record<string, Requirement>> = {
  data: need('RFC 8684 §3.3', 'data with a mapping is delivered and acknowledged at the data level', 'mptcp'),
  dsn4: need('RFC 8684 §3.3.2', 'DATA_ACKs have four or eight octets', 'ack4', 'ack8'),
  dsn8: need('RFC 8684 §3.3.2', 'DATA_ACKs have four or eight octets', 'ack4', 'ack8'),
  'wrong-key': need(
    'RFC 8684 §3.1',
    'the echoed key serves stateless servers; what else a wrong one does is not laid down',
    'mptcp+joined',
    'fallback',
    'reset*',
  ),
  'bare-third-ack': need('RFC 8684 §3.1', 'without the option in the third ACK both fall back', 'fallback'),
  reflection: need('RFC 9293 §3.1', 'unknown options are ignored', 'left-alone'),
  'checksum-asked': need('RFC 8684 §3.1', 'checksums are used if either end asks for them', 'mptcp+checksums'),
  'no-checksum-first': need('RFC 8684 §3.3', 'a mapping without the agreed checksum closes the subflow with a RST', 'reset*'),
  'no-checksum-later': need('RFC 8684 §3.3', 'a mapping without the agreed checksum closes the subflow with a RST', 'reset*'),
  'bad-checksum-first': need('RFC 8684 §3.7', MP_FAIL_TEXT, 'mp-fail+*'),
  'bad-checksum-capable': need('RFC 8684 §3.7', MP_FAIL_TEXT, 'mp-fail+*'),
  'bad-checksum-later': need('RFC 8684 §3.7', MP_FAIL_TEXT, 'mp-fail+*'),
  'bad-checksum-then-good': need('RFC 8684 §3.7', MP_FAIL_TEXT, 'mp-fail+*'),
  'bad-checksum-then-plain': need('RFC 8684 §3.7', `${MP_FAIL_TEXT}; the rest is TCP`, 'mp-fail+*, then fallback', 'mp-fail+*, then reset*'),
  'bad-checksum-then-infinite': need('RFC 8684 §3.7', `${MP_FAIL_TEXT}; the infinite mapping ends Multipath TCP`, 'mp-fail+*, then fallback'),
  'bad-checksum-then-silence': need('RFC 8684 §3.7', MP_FAIL_TEXT, 'mp-fail+*'),
  'bad-checksum-two': need(
    'RFC 8684 §3.7',
    'with several subflows the failed one is reset, with MP_FAIL on the RST; the others go on',
    'mp-fail+reset*, other mptcp',
  ),
  'bad-checksum-join': need(
    '§3.7',
    `${MP_FAIL_TEXT}; ${JOIN_REFUSED}`,
    'mp-fail+*, join-reset*',
    'mp-fail+*, join-synack-reset*',
    'mp-fail+*, join-plain',
    'mp-fail+*, join-silence',
  ),
  'long-payload': need('RFC 8684 §3.7', `inserted payload fails the checksum: ${MP_FAIL_TEXT}`, 'mp-fail+*', 'reset*'),
  'infinite-mapping': need('RFC 8684 §3.7', 'an infinite mapping turns the connection into TCP', 'fallback'),
  'infinite-mapping-two': need('RFC 8684 §3.7', 'only one subflow may go on with an infinite mapping', 'reset*'),
  'plain-first': need('RFC 8684 §3.7', 'first data without DSS: both fall back', 'fallback'),
  'plain-later': need('RFC 8684 §3.7', UNMAPPED, 'reset*', 'undelivered', 'data-acked'),
  'plain-two': need('RFC 8684 §3.7', UNMAPPED, 'reset*', 'undelivered', 'silence'),
  'split-both': need('RFC 8684 §3.3', 'a mapping may cover several segments', 'mptcp'),
  'split-first': need('RFC 8684 §3.3', 'a mapping may cover several segments', 'mptcp'),
  coalesced: need('RFC 8684 §3.3', UNMAPPED, 'reset*', 'undelivered', 'data-acked'),
  'wrong-ssn': need('RFC 8684 §3.3', UNMAPPED, 'reset*', 'undelivered'),
  'dsn-hole': need('RFC 8684 §3.3.1', 'data out of order waits for the hole to be filled', 'hole-kept, mptcp'),
  'dsn-outside': need('RFC 8684 §3.8', 'data outside the window is dropped, no DATA_ACK', 'undelivered, then mptcp'),
  'dsn-duplicate': need('RFC 8684 §3.3.5', 'data received twice counts once', 'undelivered, then mptcp'),
  'no-data-ack': need('RFC 8684 §3.7', 'without any DATA_ACK the sender falls back, or sends the data again', 'reinjected', 'not-reinjected'),
  'data-fin': need('RFC 8684 §3.3.3', 'DATA_FIN is acknowledged', 'acked+*'),
  'too-long-mapping': need('RFC 8684 §3.3', 'with checksums nothing is delivered before the mapping is complete', 'undelivered', 'data-acked'),
  'join-after-fallback': need(
    'RFC 8684 §3.7',
    JOIN_REFUSED,
    'fallback, join-reset*',
    'fallback, join-synack-reset*',
    'fallback, join-plain',
    'fallback, join-silence',
  ),
  'join-after-infinite': need(
    'RFC 8684 §3.7',
    JOIN_REFUSED,
    'fallback, join-reset*',
    'fallback, join-synack-reset*',
    'fallback, join-plain',
    'fallback, join-silence',
  ),
  'mp-fail': need('RFC 8684 §3.7', 'MP_FAIL is answered by MP_FAIL, and then by the infinite mapping', 'mp-fail+infinite-mapping', 'mp-fail+fallback'),
  join: need('RFC 8684 §3.2', 'a join with the right token and HMAC is accepted', 'joined+data'),
  'join-backup': need('RFC 8684 §3.2', 'a join may be a backup', 'joined'),
  'join-token': need('RFC 8684 §3.8', 'an unknown token is answered by a RST', 'join-reset*'),
  'join-early': need('RFC 8684 §3.2', 'no connection yet that could be joined', 'join-reset*', 'join-silence', 'joined'),
  'join-before-data': need('RFC 8684 §3.2', 'before data a join may be accepted or refused', 'joined', 'join-reset*', 'join-synack-reset*'),
  'join-bad-hmac': need('RFC 8684 §3.2', 'a wrong HMAC closes the subflow with a RST', 'join-synack-reset*'),
  'join-no-hmac': need('RFC 8684 §3.2', 'a third ACK without MP_JOIN closes the subflow with a RST', 'join-synack-reset*'),
  'join-limit': need('RFC 8684 §3.2', 'further subflows may be refused with a RST', 'join-reset*', 'join-synack-reset*', 'no-limit'),
  'join-after-bare': need('RFC 8684 §3.1', JOIN_REFUSED, 'fallback, join-reset*', 'fallback, join-synack-reset*'),
  'join-closed-port': need('RFC 9293 §3.10.7.1', 'a closed port answers by a RST', 'join-reset*', 'join-silence'),
  'server-add-addr': need(
    'RFC 8684 §3.4.1',
    'announced addresses carry a right HMAC (version 1) and may be repeated',
    'none',
    'announced',
    'announced+repeated',
  ),
  'remove-addr': need(
    '§3.4.2',
    'a removed address closes its subflow, perhaps after a keepalive; the others go on',
    'fin, other mptcp',
    'reset*, other mptcp',
    'silence, other mptcp',
  ),
  prio: need('RFC 8684 §3.3.8', 'data leaves a subflow that has become a backup', 'mptcp'),
  'fastclose-ack': need('RFC 8684 §3.5', 'every subflow is reset', 'reset*, other reset*'),
  'fastclose-rst': need('RFC 8684 §3.5', 'the other subflows are reset', 'other reset*'),
  'fastclose-wrong': need('RFC 8684 §3.5', 'a wrong key is ignored', 'open, other open, mptcp'),
  tcprst: need('RFC 8684 §3.6', 'the reset of one subflow leaves the others alone', 'mptcp'),
};

const REQUIREMENTS_1: Readonly<Record<string, Requirement>> = {
  capable: need('RFC 8684 §3.1', 'a server that speaks it answers MP_CAPABLE with its key, others as plain TCP', 'v1', 'plain'),
  'capable-data': need('RFC 8684 §3.1', 'MP_CAPABLE with a length stands for the first mapping', 'mptcp'),
  'wrong-sender-key': need('RFC 8684 §3.1', 'data outside the sequence space of the key cannot be delivered', 'undelivered', 'reset*', 'silence', 'fallback'),
  'short-third-ack': need('RFC 8684 §3.1', 'a third ACK without both keys is no confirmation', 'fallback', 'reset*', 'silence'),
  'third-ack-version-0': need('RFC 8684 §3.1', 'the version is agreed on in the SYNs', 'fallback', 'reset*', 'silence'),
  'syn-v0': need('RFC 8684 §3.1', 'version 0 is answered as version 0, or not at all', 'v0', 'plain'),
  'syn-v0-short': need('RFC 6824 §3.1', 'version 0 has its key in the SYN', 'plain'),
  'syn-v1-long': need('RFC 8684 §3.1', 'version 1 has no key in the SYN', 'plain'),
  'syn-v2': need('RFC 8684 §3.1', 'a higher version is answered by the highest that is known', 'v1'),
  'syn-flags-00': need('RFC 8684 §3.1', 'without a crypto algorithm the option is ignored', 'plain'),
  'syn-flags-41': need('RFC 8684 §3.1', 'with flag B the option is ignored', 'plain'),
  'syn-flags-1f': need('RFC 8684 §3.1', 'an algorithm both know is taken, unknown bits may be refused', 'v1', 'plain'),
  'syn-both': need('RFC 8684 §3.1', 'one of the versions, or none', 'v1', 'v0', 'plain'),
  'syn-capable-join': need('RFC 8684 §3.2', 'the two exclude each other', 'plain', 'v1', 'refused'),
  'flag-c': need(
    'RFC 8684 §3.1',
    'a server that sets C may still take joins to its initial address',
    'no-flag-c+joined',
    'flag-c+joined',
    'flag-c+join-reset*',
    'flag-c+join-synack-reset*',
  ),
  'stray-checksum': need('RFC 8684 §3.3', 'a checksum that was not agreed on closes the subflow with a RST', 'reset*'),
  'add-addr': need('RFC 8684 §3.4.1', 'an announcement with a right HMAC is echoed', 'echo', 'echo+joins'),
  'add-addr-port': need('RFC 8684 §3.4.1', 'an announcement with a right HMAC is echoed', 'echo', 'echo+joins'),
  'add-addr-bad-hmac': need('RFC 8684 §3.4.1', 'an announcement with a wrong HMAC is ignored', 'silence'),
  'add-addr-v0': need('RFC 8684 §3.4.1', 'an announcement without an HMAC is ignored', 'silence'),
};

const REQUIREMENTS_0: Readonly<Record<string, Requirement>> = {
  capable: need('RFC 6824 §3.1', 'a server that speaks it answers MP_CAPABLE with its key, others as plain TCP', 'v0', 'plain'),
  'stray-checksum': need('RFC 6824 §3.3', 'a checksum that was not agreed on is ignored', 'mptcp'),
  'add-addr-v0': need('RFC 6824 §3.4.1', 'announcements have no echo; the address may be joined', 'silence', 'silence+joins'),
};

/** Linux 6.18, measured in network namespaces; where two outcomes stand, settings of the server decide. */
const LINUX: KnownTable = {
  name: 'Linux upstream',
  version: 1,
  outcomes: {
    capable: ['v1'],
    data: ['mptcp'],
    'capable-data': ['mptcp'],
    dsn4: ['ack4'],
    dsn8: ['ack8'],
    'wrong-key': ['mptcp+joined'],
    'wrong-sender-key': ['undelivered'],
    'bare-third-ack': ['fallback'],
    'short-third-ack': ['fallback'],
    'third-ack-version-0': ['fallback'],
    'syn-v0': ['plain'],
    'syn-v0-short': ['plain'],
    'syn-v1-long': ['plain'],
    'syn-v2': ['v1'],
    'syn-flags-00': ['plain'],
    'syn-flags-41': ['plain'],
    'syn-flags-1f': ['plain'],
    'syn-both': ['v1'],
    'syn-capable-join': ['plain'],
    reflection: ['left-alone'],
    'flag-c': ['no-flag-c+joined', 'flag-c+joined'],
    'checksum-asked': ['mptcp+checksums'],
    'no-checksum-first': ['fallback'],
    'no-checksum-later': ['fallback'],
    'stray-checksum': ['fallback', 'not-applicable'],
    'bad-checksum-first': ['fallback'],
    'bad-checksum-capable': ['fallback'],
    'bad-checksum-later': ['mp-fail+mptcp'],
    'bad-checksum-then-good': ['mp-fail+mptcp, then mptcp'],
    'bad-checksum-then-plain': ['mp-fail+mptcp, then fallback'],
    'bad-checksum-then-infinite': ['mp-fail+mptcp, then fallback'],
    'bad-checksum-then-silence': ['mp-fail+mptcp, then reset:0'],
    'bad-checksum-two': ['mp-fail+reset:6, other mptcp'],
    'long-payload': ['mp-fail+fallback'],
    'infinite-mapping': ['fallback'],
    'infinite-mapping-two': ['reset:1'],
    'plain-first': ['fallback'],
    'plain-later': ['fallback'],
    'plain-two': ['reset:6'],
    'split-both': ['mptcp'],
    'split-first': ['mptcp'],
    coalesced: ['fallback'],
    'wrong-ssn': ['fallback'],
    'dsn-hole': ['hole-kept, mptcp'],
    'dsn-outside': ['undelivered, then mptcp'],
    'dsn-duplicate': ['undelivered, then mptcp'],
    'no-data-ack': ['reinjected'],
    'data-fin': ['acked+answered', 'acked+open'],
    'too-long-mapping': ['undelivered'],
    'join-after-fallback': ['fallback, join-synack-reset:3'],
    'join-after-infinite': ['fallback, join-synack-reset:3'],
    'mp-fail': ['mp-fail+infinite-mapping'],
    join: ['joined+data'],
    'join-backup': ['joined'],
    'join-token': ['join-reset:1'],
    'join-early': ['join-reset:1'],
    'join-before-data': ['joined'],
    'join-bad-hmac': ['join-synack-reset:1'],
    'join-no-hmac': ['join-synack-reset:1'],
    'join-limit': ['join-synack-reset:3'],
    'join-after-bare': ['fallback, join-reset:1'],
    'join-closed-port': ['join-reset'],
    'add-addr': ['echo', 'echo+joins'],
    'add-addr-port': ['echo+joins'],
    'add-addr-bad-hmac': ['silence'],
    'add-addr-v0': ['silence'],
    'server-add-addr': ['none', 'announced+repeated'],
    'remove-addr': ['fin, other mptcp'],
    prio: ['mptcp'],
    'fastclose-ack': ['reset:0, other reset:0'],
    'fastclose-rst': ['other reset*'],
    'fastclose-wrong': ['open, other open, mptcp'],
    tcprst: ['mptcp'],
    'unread-data': ['reset:0+fastclose', 'kept-open', 'data-fin'],
  },
};

/** The stack of multipath-tcp.org, version 0, from published traces of 2017. */
const MULTIPATH_TCP_ORG: KnownTable = {
  name: 'multipath-tcp.org',
  version: 0,
  outcomes: {
    capable: ['v0'],
    data: ['mptcp'],
    'wrong-key': ['mptcp+joined'],
    'checksum-asked': ['mptcp+checksums'],
    'no-checksum-first': ['reset*'],
    'bad-checksum-first': ['mp-fail+fallback', 'mp-fail+undelivered'],
    'bad-checksum-join': ['mp-fail+fallback, join-reset*', 'mp-fail+undelivered, join-reset*'],
    'infinite-mapping': ['fallback'],
    'join-after-infinite': ['fallback, join-reset*'],
    'join-before-data': ['join-reset*'],
    'join-token': ['join-reset*'],
    'too-long-mapping': ['undelivered'],
    'server-add-addr': ['announced', 'announced+repeated'],
  },
};

export const KNOWN: readonly KnownTable[] = [LINUX, MULTIPATH_TCP_ORG];
