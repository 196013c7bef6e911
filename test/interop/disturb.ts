/** What may happen to the paths in the middle of an interop case, and what must be seen then. */
import type { Case, CaseOptions, CaseResult } from './case.ts';
import type { Direction } from './protocol.ts';

export type Disturbance = 'loss' | 'cut' | 'remove' | 'strip-handshake' | 'strip-data' | 'strip-later';

interface Recipe {
  leastSubflows: number;
  mostSubflows?: number;
  directions?: readonly Direction[];
  options(one: Case): Partial<CaseOptions>;
  check(one: Case, result: CaseResult): string[];
}

const RATE = 200_000_000;
const link = { rate: RATE, delay: 2_000, queueTime: 20_000 };

/** The kernel has an endpoint to withdraw when it opened the further subflow from one; else we withdraw ours. */
const kernelRemoves = (one: Case): boolean => one.role === 'our server' && one.families !== 'both';

const expectMultipath = (_one: Case, result: CaseResult): string[] => {
  const problems: string[] = [];
  if (result.ours !== null && result.ours.mode !== 'mptcp') problems.push(`we fell back: ${result.ours.fallbackReason}`);
  if (result.kernel !== null && (result.kernel.info === null || result.kernel.info.fallback)) problems.push('the kernel says: fallen back');
  return problems;
};

const expectFallback = (_one: Case, result: CaseResult): string[] =>
  result.ours !== null && result.ours.mode !== 'tcp' ? ['no fallback although the options were stripped'] : [];

export const disturbances: Record<Disturbance, Recipe> = {
  /** 1 % loss and reordering all along. */
  loss: {
    leastSubflows: 1,
    options: () => ({ link: { ...link, loss: 0.01, reorder: 0.01, reorderDelay: 1_500 }, timeout: 60_000 }),
    check: expectMultipath,
  },
  /** The first path loses every packet 50 ms into the transfer, without a word. */
  cut: {
    leastSubflows: 2,
    options: () => ({
      link,
      timeout: 60_000,
      disturb: (bench) => {
        setTimeout(() => {
          bench.links[0]!.forward.setUp(false);
          bench.links[0]!.backward.setUp(false);
        }, 50);
      },
    }),
    check: expectMultipath,
  },
  /** The last path is withdrawn 50 ms into the transfer, by our host or by the kernel. */
  remove: {
    leastSubflows: 2,
    options: (one) => ({
      link,
      timeout: 60_000,
      disturb: (bench) => {
        setTimeout(() => {
          if (kernelRemoves(one)) {
            bench.namespace.run('ip', 'mptcp', 'endpoint', 'delete', 'id', '1');
            return;
          }
          bench.host.interfaceDown(bench.interfaces[bench.interfaces.length - 1]!, bench.now());
          bench.runner.pump();
        }, 50);
      },
    }),
    check: (one, result) => {
      const problems = expectMultipath(one, result);
      if (!kernelRemoves(one) && (result.counters.get('MPTcpExtRmAddr') ?? 0) === 0) problems.push('the kernel has seen no REMOVE_ADDR');
      if (kernelRemoves(one) && (result.counters.get('MPTcpExtRmAddrTx') ?? 0) === 0) problems.push('the kernel has sent no REMOVE_ADDR');
      return problems;
    },
  },
  /** No Multipath TCP option passes on SYN segments. */
  'strip-handshake': {
    leastSubflows: 1,
    options: () => ({ link, prepare: (bench) => bench.stripAll('syn') }),
    check: expectFallback,
  },
  /** Options pass on SYN segments only. */
  'strip-data': {
    leastSubflows: 1,
    options: () => ({ link, prepare: (bench) => bench.stripAll('after-handshake') }),
    check: expectFallback,
  },
  /**
   * Options vanish in the middle of the transfer, in both directions. Payload must flow both ways: a side that only
   * receives cannot tell its peer, and resets instead (RFC 8684 §3.7, fourth rule).
   */
  'strip-later': {
    leastSubflows: 1,
    directions: ['both'],
    options: () => ({
      link,
      timeout: 60_000,
      disturb: (bench) => {
        setTimeout(() => bench.stripAll('all'), 50);
      },
    }),
    check: expectFallback,
  },
};
