/** Load balancers: a dot for each connection, coloured by its server, with a mark for its second subflow. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { FarmDesign, FarmState } from '@subflow/web/farm';
import type { ToFarm } from './farm-worker.ts';
import { colourOf } from './files.ts';

const LESSONS: readonly [FarmDesign, string, string][] = [
  ['a', 'a: a table', 'An entry for each 4-tuple. A join is a new 4-tuple: it goes wherever its own hash leads, to the right server one time in three.'],
  [
    'b-maglev',
    'b: a hash',
    'No table, a hash of the 4-tuple (Maglev). Joins are lost as with a; a new server takes tuples away from the others, and their connections end.',
  ],
  [
    'c',
    'c: keys that name the server',
    'Servers draw keys until the token names them, and stamp their name into timestamps (Olteanu and Raiciu). Every packet says where it belongs.',
  ],
  [
    'd',
    'd: tokens learnt',
    'The balancer reads the key in the third ACK and hashes it to the token (Lienardy and Donnet). All joins find their server, as long as it remembers: replace it.',
  ],
  [
    'e',
    'e: direct addresses',
    'Servers set flag C and announce an address of their own (Duchene and Bonaventure). Joins never come to the balancer; connections live on by them when the first subflow is lost.',
  ],
  [
    'f',
    'f: Beamer',
    'Buckets know their server and the one before; a server sends on what it does not know. Ports name servers. Add, drain, replace: nothing is lost.',
  ],
];

export function Farm(_props: { theme: string }) {
  const [design, setDesign] = useState<FarmDesign>('f');
  const [state, setState] = useState<FarmState | null>(null);
  const worker = useRef<Worker | null>(null);
  const say = (message: ToFarm): void => worker.current?.postMessage(message);

  useEffect(() => {
    const own = new Worker(new URL('./farm-worker.ts', import.meta.url), { type: 'module' });
    worker.current = own;
    own.onmessage = ({ data }: MessageEvent<FarmState>) => setState(data);
    say({ do: 'begin', design });
    return () => own.terminate();
  }, []);

  const alive = state?.connections.filter((one) => one.alive).length ?? 0;
  return (
    <div class="farm">
      <div class="bar" role="toolbar" aria-label="Balancer">
        <label>
          Design{' '}
          <select
            aria-label="Design"
            value={design}
            onChange={(event) => {
              const next = event.currentTarget.value as FarmDesign;
              setDesign(next);
              say({ do: 'begin', design: next });
            }}
          >
            {LESSONS.map(([id, name]) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" onClick={() => say({ do: 'open' })}>
          20 more connections
        </button>
        <button type="button" onClick={() => say({ do: 'add' })}>
          Add server 4
        </button>
        <button type="button" onClick={() => say({ do: 'drain' })}>
          Drain server 1
        </button>
        <button type="button" onClick={() => say({ do: 'crash' })}>
          Crash server 2
        </button>
        <button type="button" onClick={() => say({ do: 'replace' })}>
          Replace the balancer
        </button>
      </div>
      <p>{LESSONS.find(([id]) => id === design)![2]}</p>
      <p role="status" data-testid="farm">
        {state === null
          ? 'Opening 60 connections …'
          : `${alive} of ${state.connections.length} connections alive, ${state.joined} with a second subflow, ${state.subflows} subflows`}
      </p>
      <div class="servers">
        {(state?.servers ?? []).map((server) => (
          <section key={server.id} class="list" aria-label={`Server ${server.id}`}>
            <h2>
              <span class="dot" style={{ background: colourOf(server.id - 1) }} />
              server {server.id} <small>{server.state}</small>
            </h2>
            <div class="dots" aria-hidden="true">
              {state!.connections.map((one, i) =>
                one.home === server.id && one.alive ? (
                  <span key={i} class={one.subflows > 1 ? 'conn two' : 'conn'} style={{ background: colourOf(server.id - 1) }} />
                ) : null,
              )}
            </div>
            <small>
              {server.connections} connections{server.chained > 0 ? `, ${server.chained} packets sent on` : ''}
            </small>
          </section>
        ))}
      </div>
      <section class="list" aria-label="What happened">
        <h2>What happened</h2>
        <ul tabIndex={0}>
          {(state?.log ?? []).toReversed().map((line, i) => (
            <li key={i}>{line}</li>
          ))}
        </ul>
      </section>
      <p class="soft">
        A dot is a connection; a ring around it is its second subflow. Everything here is packets of our stack in virtual time. `subflow lb` does the same for
        real.
      </p>
    </div>
  );
}
