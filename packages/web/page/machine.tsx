/** This machine: its Multipath TCP connections, a band for each interface, events, endpoints. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { colourOf } from './files.ts';
import { Plot } from './plot.tsx';

interface Facts {
  interface: string | null;
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
  srtt: number;
  cwnd: number;
  backup?: boolean;
}

interface Live {
  time: number;
  obstacle: string | null;
  mayChange: boolean;
  connections: {
    source: string;
    status: { key: string; local: string; remote: string; state: string; version: number | null; fallback: string | null; bytesReinjected: number };
    subflows: { facts: Facts; received: number; sent: number }[];
  }[];
  interfaces: { source: string; name: string; received: number; sent: number }[];
  moved: { source: string; name: string; value: number; by: number }[];
  endpoints: { id: number; address: string | Record<string, number>; port: number | null; flagNames: string[] }[];
  limits: { subflows: number; addressesAccepted: number } | null;
  events: { time: number; text: string }[];
}

const TOKEN = 'subflow token';
const KEPT = 240;

function tokenAtStart(): string {
  const inLink = /^#machine=([\w-]+)$/.exec(location.hash)?.[1];
  if (inLink !== undefined) {
    sessionStorage.setItem(TOKEN, inLink);
    // It need not stand in the address bar.
    history.replaceState(null, '', '#machine');
    return inLink;
  }
  return sessionStorage.getItem(TOKEN) ?? '';
}

export function Machine({ theme }: { theme: string }) {
  const [token, setToken] = useState(tokenAtStart);
  const [live, setLive] = useState<Live | null>(null);
  const [problem, setProblem] = useState('');
  const history_ = useRef<{ time: number; rates: Map<string, number> }[]>([]);

  useEffect(() => {
    if (token === '') return;
    const abort = new AbortController();
    void listen(token, abort.signal, (next) => {
      const rates = new Map(next.interfaces.map((one) => [one.name, (one.received + one.sent) / 1e6]));
      history_.current = [...history_.current, { time: next.time, rates }].slice(-KEPT);
      setLive(next);
      setProblem('');
    }).catch((error: Error) => {
      if (!abort.signal.aborted) setProblem(error.message);
    });
    return () => abort.abort();
  }, [token]);

  const bands = useMemo(() => {
    const all = history_.current;
    const names = [...new Set(all.flatMap((one) => [...one.rates].filter(([, rate]) => rate > 0.001).map(([name]) => name)))].toSorted();
    const end = all.at(-1)?.time ?? 0;
    return {
      title: 'Throughput per interface',
      unit: 'Mbit/s',
      stacked: true,
      times: all.map((one) => (one.time - end) / 1000),
      series: (names.length === 0 ? ['no interface'] : names).map((name, i) => ({
        label: name,
        colour: colourOf(i),
        kind: 'area' as const,
        values: all.map((one) => one.rates.get(name) ?? 0),
      })),
    };
  }, [live]);

  const change = async (wish: object): Promise<void> => {
    const response = await fetch('/api/change', {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(wish),
    });
    if (!response.ok) setProblem(((await response.json()) as { error: { message: string } }).error.message);
  };

  if (token === '')
    return (
      <form
        class="ask"
        onSubmit={(event) => {
          event.preventDefault();
          setToken(new FormData(event.currentTarget).get('token') as string);
        }}
      >
        <h2>This machine</h2>
        <p>
          <code>subflow web</code> shows the connections of the machine it runs on to whoever has its token. Open the link that it prints, or type the token
          here.
        </p>
        <label>
          Token <input name="token" autocomplete="off" required />
        </label>
        <button type="submit" class="main">
          Look
        </button>
      </form>
    );

  return (
    <div class="machine">
      {problem !== '' && (
        <p class="problem" role="alert">
          {problem}{' '}
          <button type="button" onClick={() => setToken('')}>
            another token
          </button>
        </p>
      )}
      {live !== null && live.obstacle !== null && <p class="soft">{live.obstacle}</p>}
      <Plot data={bands} theme={theme} />
      <section class="list wide" aria-label="Connections">
        <h2>Connections</h2>
        <table>
          <thead>
            <tr>
              <th>subflow</th>
              <th>interface</th>
              <th class="number">received</th>
              <th class="number">sent</th>
              <th class="number">RTT</th>
              <th class="number">cwnd</th>
            </tr>
          </thead>
          {(live?.connections ?? []).map((one) => (
            <tbody key={one.source + one.status.key} data-testid="connection">
              <tr class="head">
                <th colSpan={6}>
                  {one.source}: {one.status.local} → {one.status.remote} {one.status.state}
                  {one.status.fallback === null ? '' : `, fallback: ${one.status.fallback}`}, sent again {(one.status.bytesReinjected / 1000).toFixed(0)} kB
                </th>
              </tr>
              {one.subflows.map(({ facts, received, sent }) => (
                <tr key={`${facts.localAddress} ${facts.localPort} ${facts.remoteAddress} ${facts.remotePort}`}>
                  <td>
                    {facts.localAddress}:{facts.localPort} → {facts.remoteAddress}:{facts.remotePort}
                  </td>
                  <td>{facts.interface ?? '–'}</td>
                  <td class="number">{(received / 1e6).toFixed(1)} Mbit/s</td>
                  <td class="number">{(sent / 1e6).toFixed(1)} Mbit/s</td>
                  <td class="number">{(facts.srtt / 1000).toFixed(1)} ms</td>
                  <td class="number">{(facts.cwnd / 1000).toFixed(0)} kB</td>
                </tr>
              ))}
            </tbody>
          ))}
        </table>
        {live !== null && live.connections.length === 0 && <p class="soft">No Multipath TCP connection is open.</p>}
      </section>
      <div class="lists">
        <section class="list" aria-label="Endpoints and limits">
          <h2>Endpoints and limits</h2>
          <ul>
            {(live?.endpoints ?? []).map((one) => (
              <li key={one.id}>
                {one.id} {text(one.address)} {one.flagNames.join(' ')}{' '}
                {live!.mayChange && (
                  <button type="button" aria-label={`Remove endpoint ${one.id}`} onClick={() => void change({ do: 'remove-endpoint', id: one.id })}>
                    ×
                  </button>
                )}
              </li>
            ))}
            {live?.endpoints.length === 0 && <li class="soft">none</li>}
          </ul>
          {live !== null && live.limits !== null && (
            <p>
              {(['subflows', 'addressesAccepted'] as const).map((key) => (
                <label key={key}>
                  {key === 'subflows' ? 'subflows' : 'announced addresses'}{' '}
                  <input
                    type="number"
                    min={0}
                    max={8}
                    disabled={!live.mayChange}
                    value={live.limits![key]}
                    onChange={(event) => void change({ do: 'limits', ...live.limits, [key]: Number(event.currentTarget.value) })}
                  />
                </label>
              ))}
            </p>
          )}
          {live?.mayChange === true && (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                const data = new FormData(event.currentTarget);
                void change({ do: 'add-endpoint', address: data.get('address'), flags: [data.get('flag')] });
                event.currentTarget.reset();
              }}
            >
              <input name="address" placeholder="address" aria-label="Address of a new endpoint" required />
              <select name="flag" aria-label="Kind of the new endpoint">
                <option>subflow</option>
                <option>signal</option>
                <option>backup</option>
                <option>fullmesh</option>
              </select>
              <button type="submit">Add</button>
            </form>
          )}
        </section>
        <section class="list" aria-label="Counters that move">
          <h2>Counters that move</h2>
          <ul>
            {(live?.moved ?? []).map((one) => (
              <li key={one.name}>
                {one.name} {one.value} <b>+{one.by}</b>
              </li>
            ))}
          </ul>
        </section>
        <section class="list" aria-label="Events">
          <h2>Events</h2>
          <ul tabIndex={0}>
            {(live?.events ?? []).toReversed().map((one, i) => (
              <li key={i}>
                <time>{new Date(one.time).toISOString().slice(11, 23)}</time> {one.text}
              </li>
            ))}
          </ul>
        </section>
      </div>
    </div>
  );
}

function text(address: string | Record<string, number>): string {
  if (typeof address === 'string') return address;
  const octets = Object.values(address);
  return octets.length === 4
    ? octets.join('.')
    : octets
        .map((one) => one.toString(16).padStart(2, '0'))
        .join('')
        .replaceAll(/(.{4})(?=.)/g, '$1:');
}

/** Server-sent events, read by hand: EventSource sends no token. */
async function listen(token: string, signal: AbortSignal, onMessage: (live: Live) => void): Promise<void> {
  const response = await fetch('/api/live', { headers: { authorization: `Bearer ${token}` }, signal });
  if (!response.ok)
    throw new Error(response.status === 401 ? 'This token is not the one that `subflow web` has printed.' : `The server says ${response.status}.`);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error('The connection to `subflow web` has ended.');
    held += value;
    const parts = held.split('\n\n');
    held = parts.pop()!;
    for (const part of parts) if (part.startsWith('data: ')) onMessage(JSON.parse(part.slice(6)) as Live);
  }
}
