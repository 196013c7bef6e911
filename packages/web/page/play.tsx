/** The playground: client, paths, server; what to send; what comes of it. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import {
  BIN,
  CONTROLLER_NAMES,
  COUPLED_NAMES,
  DEFAULT_SETUP,
  LESSONS,
  LIMITS,
  MIDDLEBOX_NAMES,
  PATH_MANAGERS,
  SCHEDULER_NAMES,
  SERVICE_NAMES,
  setupFromText,
  setupToText,
  setupToYaml,
  TRAFFIC,
} from '@subflow/web/play';
import type { PlayAction, PlayPath, PlaySetup, Progress } from '@subflow/web/play';
import { colourOf, download } from './files.ts';
import type { FromWorker, PacketRow, ToWorker } from './messages.ts';
import { Plot } from './plot.tsx';
import type { PlotData } from './plot.tsx';

const KEPT_ROWS = 200;
const KEPT_EVENTS = 300;
const SPEEDS = [0.01, 0.05, 0.2, 0.5, 1, 2, 5, 20] as const;
const SAVED = 'subflow playground';

/** All that has been told since the start. */
interface Story {
  now: number;
  bins: number[][];
  sequence: Progress['sequence'];
  acknowledged: Progress['acknowledged'];
  snapshots: Progress['snapshots'];
  events: Progress['events'];
  decisions: Progress['decisions'];
  rows: PacketRow[];
  paths: Map<number, number>;
  last: Progress | null;
  behind: boolean;
}

const EMPTY: Story = {
  now: 0,
  bins: [],
  sequence: [],
  acknowledged: [],
  snapshots: [],
  events: [],
  decisions: [],
  rows: [],
  paths: new Map(),
  last: null,
  behind: false,
};

function grown(story: Story, progress: Progress, rows: PacketRow[], behind: boolean): Story {
  const bins = story.bins.slice(0, progress.from);
  // Columns in which nothing came are not told of.
  while (bins.length < progress.from) bins.push([]);
  bins.push(...progress.bins);
  return {
    now: progress.now,
    bins,
    sequence: [...story.sequence, ...progress.sequence],
    acknowledged: thinned([...story.acknowledged, ...progress.acknowledged]),
    snapshots: [...story.snapshots, ...progress.snapshots],
    events: [...story.events, ...progress.events].slice(-KEPT_EVENTS),
    decisions: progress.decisions.length > 0 ? progress.decisions : story.decisions,
    rows: [...story.rows, ...rows].slice(-KEPT_ROWS),
    paths: new Map(progress.subflowPaths),
    last: progress,
    behind,
  };
}

/** Every second one, when there are more than eyes can tell apart. */
function thinned<T>(list: T[]): T[] {
  return list.length > 4000 ? list.filter((_, i) => i % 2 === 0 || i > list.length - 50) : list;
}

function firstSetup(): { setup: PlaySetup; problem: string } {
  const text = /^#play=(.+)$/.exec(location.hash)?.[1] ?? null;
  try {
    if (text !== null) return { setup: setupFromText(text), problem: '' };
    const saved = localStorage.getItem(SAVED);
    return { setup: saved === null ? DEFAULT_SETUP : setupFromText(saved), problem: '' };
  } catch (error) {
    return { setup: DEFAULT_SETUP, problem: text === null ? '' : `This link holds no scenario that can be run: ${(error as Error).message}` };
  }
}

export function Playground({ theme }: { theme: string }) {
  const first = useMemo(firstSetup, []);
  const [setup, setSetup] = useState(first.setup);
  const [problem, setProblem] = useState(first.problem);
  const [actions, setActions] = useState<PlayAction[]>(first.setup.actions);
  const [story, setStory] = useState<Story>(EMPTY);
  const [speed, setSpeed] = useState(1);
  const [running, setRunning] = useState(false);
  const [lesson, setLesson] = useState<string | null>(null);
  const [shown, setShown] = useState<{ title: string; lines: string[] } | null>(null);
  const [copied, setCopied] = useState('');
  const worker = useRef<Worker | null>(null);
  const coming = useRef<{ progress: Progress; rows: PacketRow[]; behind: boolean }[]>([]);

  useEffect(() => {
    const own = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    worker.current = own;
    let frame = 0;
    // What comes between two frames is drawn in one.
    const draw = (): void => {
      frame = 0;
      const all = coming.current.splice(0);
      setStory((before) => all.reduce((now, one) => grown(now, one.progress, one.rows, one.behind), before));
    };
    own.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      switch (data.type) {
        case 'progress':
          coming.current.push(data);
          frame ||= requestAnimationFrame(draw);
          return;
        case 'acted':
          setActions((before) => [...before, data.action]);
          return;
        case 'description':
          setShown(data);
          return;
        case 'pcapng':
          download('playground.pcapng', new Blob([data.bytes as BlobPart], { type: 'application/octet-stream' }));
          return;
        case 'error':
          setProblem(data.message);
      }
    };
    own.onerror = () => setProblem('The engine stopped. Reload the page; the scenario is kept.');
    return () => own.terminate();
  }, []);

  const say = (message: ToWorker): void => worker.current?.postMessage(message);

  useEffect(() => {
    say({ do: 'speed', speed: running ? speed : 0 });
  }, [running, speed]);

  useEffect(() => {
    if (story.last?.ended === true) setRunning(false);
  }, [story.last?.ended]);

  const begin = (from: PlaySetup, go: boolean): void => {
    coming.current = [];
    setStory(EMPTY);
    setActions(from.actions);
    setShown(null);
    setProblem('');
    say({ do: 'start', setup: from });
    setRunning(go);
  };

  /** A change before the start, or of a path while it runs. */
  const change = (next: PlaySetup): void => {
    setSetup(next);
    localStorage.setItem(SAVED, setupToText(next));
  };
  const changePath = (i: number, fields: Partial<PlayPath>): void => {
    change({ ...setup, paths: setup.paths.map((one, k) => (k === i ? { ...one, ...fields } : one)) });
    const { up, rate, delay, loss } = fields;
    if (story.last !== null && (up ?? rate ?? delay ?? loss) !== undefined)
      say({
        do: 'act',
        action: {
          path: i,
          ...(up === undefined ? {} : { up }),
          ...(rate === undefined ? {} : { rate }),
          ...(delay === undefined ? {} : { delay }),
          ...(loss === undefined ? {} : { loss }),
        },
      });
  };
  /** The scenario as it was at the start, with all that was done since. */
  const shared = (): PlaySetup => ({ ...setup, paths: setup.paths.map((one, i) => started.current?.paths[i] ?? one), actions });
  const started = useRef<PlaySetup | null>(null);
  const start = (): void => {
    const from = { ...setup, actions: lesson === null ? [] : setup.actions };
    started.current = from;
    begin(from, true);
  };
  const take = (id: string): void => {
    const found = LESSONS.find((one) => one.id === id)!;
    setLesson(id);
    change(found.setup);
    started.current = found.setup;
    begin(found.setup, false);
  };

  // A link with a run in it begins by itself.
  useEffect(() => {
    if (location.hash.startsWith('#play=') && first.problem === '') {
      setLesson('');
      started.current = first.setup;
      begin(first.setup, true);
    }
  }, []);

  const plots = useMemo(() => plotsOf(setup, story), [story]);
  const current = lesson === null || lesson === '' ? null : LESSONS.find((one) => one.id === lesson)!;

  return (
    <div class="play">
      <section class="lessons" aria-label="Lessons">
        <label>
          Lesson{' '}
          <select aria-label="Lesson" value={lesson ?? ''} onChange={(event) => take(event.currentTarget.value)}>
            <option value="" disabled>
              choose one, or change anything below
            </option>
            {LESSONS.map((one) => (
              <option key={one.id} value={one.id}>
                {one.title}
              </option>
            ))}
          </select>
        </label>
        {current !== null && (
          <div class="lesson">
            <p>{current.text}</p>
            <ol>
              {current.watch.map((line) => (
                <li key={line}>{line}</li>
              ))}
            </ol>
          </div>
        )}
      </section>
      {problem !== '' && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <Drawing setup={setup} story={story} onPath={changePath} />
      <div class="bar" role="toolbar" aria-label="Run">
        <button type="button" class="main" onClick={() => (story.last === null || story.last.ended ? start() : setRunning(!running))}>
          {story.last === null ? 'Start' : story.last.ended ? 'Again' : running ? 'Pause' : 'Go on'}
        </button>
        <button type="button" disabled={running} onClick={() => (story.last === null ? (start(), setRunning(false)) : say({ do: 'step' }))}>
          Step
        </button>
        <label>
          Speed{' '}
          <select aria-label="Speed" value={String(speed)} onChange={(event) => setSpeed(Number(event.currentTarget.value))}>
            {SPEEDS.map((one) => (
              <option key={one} value={String(one)}>
                {one} ×
              </option>
            ))}
          </select>
        </label>
        <output class="clock" aria-label="Emulated time">
          {(story.now / 1e6).toFixed(2)} s
        </output>
        <span class="space" />
        <button
          type="button"
          onClick={() => {
            const link = `${location.origin}${location.pathname}#play=${setupToText(shared())}`;
            history.replaceState(null, '', link);
            navigator.clipboard?.writeText(link).then(
              () => setCopied('copied'),
              () => setCopied('in the address bar'),
            );
            setCopied('in the address bar');
          }}
        >
          Share link
        </button>
        {copied !== '' && <small role="status">{copied}</small>}
        <button type="button" onClick={() => download('playground.yaml', new Blob([setupToYaml(shared())], { type: 'text/yaml' }))}>
          YAML
        </button>
        <button type="button" disabled={story.last === null} onClick={() => say({ do: 'pcapng' })}>
          pcapng
        </button>
      </div>
      <Verdict story={story} />
      <div class="plots">
        {plots.map((data) => (
          <Plot key={data.title} data={data} theme={theme} />
        ))}
      </div>
      <div class="lists">
        <Packets setup={setup} rows={story.rows} shown={shown} onShow={(number) => say({ do: 'describe', number })} />
        <section class="list" aria-label="What the scheduler decided">
          <h2>Scheduler</h2>
          <ul tabIndex={0}>
            {story.decisions.length === 0 && <li class="soft">With two subflows: which one it takes, and why.</li>}
            {story.decisions.toReversed().map((one, i) => (
              <li key={i}>
                <time>{(one.at / 1e6).toFixed(3)}</time> {one.why}
              </li>
            ))}
          </ul>
        </section>
        <section class="list" aria-label="Events">
          <h2>Events</h2>
          <ul tabIndex={0}>
            {story.events.length === 0 && <li class="soft">What both ends tell.</li>}
            {story.events.toReversed().map((one, i) => (
              <li key={i}>
                <time>{(one.at / 1e6).toFixed(3)}</time> <b>{one.side}</b> {one.text}
              </li>
            ))}
          </ul>
        </section>
      </div>
      <Settings setup={setup} onChange={change} />
    </div>
  );
}

function Verdict({ story }: { story: Story }) {
  const total = story.last?.total;
  const share = total === undefined ? 0 : total.received / total.wanted;
  return (
    <div class="verdict" role="status">
      <progress max={1} value={share} aria-label="Transferred" />
      <span data-testid="verdict">
        {story.last?.verdict ?? (total === undefined ? 'Nothing sent yet.' : `${(total.received / 1e6).toFixed(1)} of ${(total.wanted / 1e6).toFixed(1)} MB`)}
      </span>
      {total !== undefined && (
        <span class="soft">
          {total.version === null ? `plain TCP${total.fallback === null ? '' : ` (${total.fallback})`}` : `version ${total.version}`} · sent again{' '}
          {(total.reinjected / 1000).toFixed(0)} kB · {story.last!.packets.toLocaleString('en')} packets
          {story.behind ? ' · this machine is behind the clock' : ''}
        </span>
      )}
    </div>
  );
}

/** Mbit/s of each path in the last half second. */
function ratesOf(story: Story, paths: number): number[] {
  const recent = story.bins.slice(-6, -1);
  return Array.from({ length: paths }, (_, i) => (recent.length === 0 ? 0 : (recent.reduce((sum, bin) => sum + (bin[i] ?? 0), 0) * 8) / (recent.length * BIN)));
}

function Drawing({ setup, story, onPath }: { setup: PlaySetup; story: Story; onPath: (i: number, fields: Partial<PlayPath>) => void }) {
  const rates = ratesOf(story, setup.paths.length);
  return (
    <section class="drawing" aria-label="Client, paths and server">
      <div class="host">
        <strong>client</strong>
        <small>{setup.traffic}</small>
      </div>
      <ul class="paths">
        {setup.paths.map((path, i) => (
          <li key={path.name} class={path.up ? '' : 'down'}>
            <svg viewBox="0 0 400 26" preserveAspectRatio="none" aria-hidden="true">
              <line x1="0" y1="13" x2="400" y2="13" stroke="var(--line)" stroke-width="2" />
              <line
                x1="0"
                y1="13"
                x2="400"
                y2="13"
                stroke={colourOf(i)}
                stroke-width={path.up ? 2 + Math.min(16, (rates[i]! / Math.max(path.rate, 0.1)) * 16) : 2}
                stroke-dasharray={path.up ? '' : '6 10'}
                opacity={path.up ? 1 : 0.5}
              />
              {!path.up && <path d="M192 4 L208 22 M208 4 L192 22" stroke="var(--bad)" stroke-width="3" />}
            </svg>
            <div class="knobs">
              <b>
                <span class="dot" style={{ background: colourOf(i) }} />
                {path.name}
              </b>
              <button
                type="button"
                aria-pressed={!path.up}
                onClick={() => onPath(i, { up: !path.up })}
                aria-label={`${path.up ? 'Cut' : 'Restore'} ${path.name}`}
              >
                {path.up ? 'Cut' : 'Restore'}
              </button>
              <output class="rate">{rates[i]!.toFixed(1)} Mbit/s</output>
              <Knob label={`rate of ${path.name}`} unit="Mbit/s" value={path.rate} low={0.1} high={100} onValue={(rate) => onPath(i, { rate })} />
              <Knob label={`delay of ${path.name}`} unit="ms" value={path.delay} low={0} high={500} whole onValue={(delay) => onPath(i, { delay })} />
              <Knob label={`loss on ${path.name}`} unit="% lost" value={path.loss} low={0} high={30} onValue={(loss) => onPath(i, { loss })} />
              {path.box !== null && <span class="box">▣ {path.box}</span>}
              {path.backup && <span class="box">backup</span>}
            </div>
          </li>
        ))}
      </ul>
      <div class="host">
        <strong>server</strong>
        <small>{setup.shared > 0 ? `behind ${setup.shared} Mbit/s` : 'subflow'}</small>
      </div>
    </section>
  );
}

/** A slider that is even in factors: from a tenth to a hundred it has as much room as from a hundred to a thousand. */
function Knob(props: { label: string; unit: string; value: number; low: number; high: number; whole?: boolean; onValue: (value: number) => void }) {
  const { low, high, value } = props;
  const base = low > 0 ? low : high / 1000;
  const place = value <= low ? 0 : (Math.log(Math.max(value, base) / base) / Math.log(high / base)) * 100;
  const valueAt = (at: number): number => {
    if (at <= 0) return low;
    const raw = base * (high / base) ** (at / 100);
    return props.whole === true || raw >= 20 ? Math.round(raw) : Number(raw.toPrecision(2));
  };
  return (
    <label class="knob">
      <input
        type="range"
        min={0}
        max={100}
        step={1}
        value={place}
        aria-label={props.label}
        aria-valuetext={`${value} ${props.unit}`}
        onInput={(event) => props.onValue(valueAt(Number(event.currentTarget.value)))}
      />
      <span>
        {value} {props.unit}
      </span>
    </label>
  );
}

function Packets(props: { setup: PlaySetup; rows: PacketRow[]; shown: { title: string; lines: string[] } | null; onShow: (number: number) => void }) {
  return (
    <section class="list packets" aria-label="Packets">
      <h2>Packets</h2>
      <ul>
        {props.rows.length === 0 && <li class="soft">Point at one to see its options.</li>}
        {props.rows
          .slice(-60)
          .toReversed()
          .map((one) => (
            <li key={one.number}>
              <button
                type="button"
                onMouseEnter={() => props.onShow(one.number)}
                onFocus={() => props.onShow(one.number)}
                onClick={() => props.onShow(one.number)}
              >
                <span class="dot" style={{ background: colourOf(one.path) }} />
                {one.number} {one.forward ? '→' : '←'} {(one.at / 1e6).toFixed(3)} {props.setup.paths[one.path]?.name} {one.length} {one.text}
              </button>
            </li>
          ))}
      </ul>
      <div class="shown" aria-live="polite">
        {props.shown === null ? (
          <p class="soft">The options of a packet stand here.</p>
        ) : (
          <>
            <b>{props.shown.title}</b>
            {props.shown.lines.map((line) => (
              <div key={line}>{line}</div>
            ))}
          </>
        )}
      </div>
    </section>
  );
}

function Settings({ setup, onChange }: { setup: PlaySetup; onChange: (next: PlaySetup) => void }) {
  const pick = <K extends keyof PlaySetup>(key: K, label: string, all: readonly PlaySetup[K][]) => (
    <label>
      {label}
      <select
        aria-label={label}
        value={String(setup[key])}
        onChange={(event) => onChange({ ...setup, [key]: all.find((one) => String(one) === event.currentTarget.value)! })}
      >
        {all.map((one) => (
          <option key={String(one)} value={String(one)}>
            {String(one)}
          </option>
        ))}
      </select>
    </label>
  );
  const number = (key: 'amount' | 'buffer' | 'seed' | 'shared', label: string, low: number, high: number) => (
    <label>
      {label}
      <input
        type="number"
        min={low}
        max={high}
        value={setup[key]}
        onChange={(event) => {
          const value = Number(event.currentTarget.value);
          if (value >= low && value <= high) onChange({ ...setup, [key]: key === 'seed' ? Math.round(value) : value });
        }}
      />
    </label>
  );
  const paths = (next: PlayPath[]): void => onChange({ ...setup, paths: next });
  const free = ['wifi', 'lte', 'cable', 'sat', 'fibre', 'dsl', 'mesh', 'radio'].find((name) => !setup.paths.some((one) => one.name === name));
  return (
    <details class="settings" open>
      <summary>Settings (take effect at the next start)</summary>
      <div class="fields">
        {pick('traffic', 'Traffic', TRAFFIC)}
        {number('amount', setup.traffic === 'chat' ? 'Messages' : 'Megabytes', 0.001, LIMITS.amount)}
        {pick('version', 'Version', [1, 0])}
        {pick('service', 'Service type', ['default', ...SERVICE_NAMES])}
        {pick('scheduler', 'Scheduler', SCHEDULER_NAMES)}
        {pick('pathManager', 'Path manager', PATH_MANAGERS)}
        {pick('controller', 'Controller', CONTROLLER_NAMES)}
        {pick('coupled', 'Coupled controller', ['none', ...COUPLED_NAMES])}
        {number('buffer', 'Receive buffer, kB', 16, LIMITS.buffer)}
        {number('shared', 'Shared bottleneck, Mbit/s', 0, LIMITS.rate)}
        {number('seed', 'Seed', 0, 2 ** 31)}
        <label class="check">
          <input type="checkbox" checked={setup.checksum} onChange={(event) => onChange({ ...setup, checksum: event.currentTarget.checked })} /> DSS checksums
        </label>
      </div>
      <div class="fields">
        {setup.paths.map((path, i) => (
          <fieldset key={path.name}>
            <legend>{path.name}</legend>
            <label>
              Middlebox
              <select
                value={path.box ?? ''}
                onChange={(event) => paths(setup.paths.map((one, k) => (k === i ? { ...one, box: event.currentTarget.value || null } : one)))}
              >
                <option value="">none</option>
                {Object.entries(MIDDLEBOX_NAMES).map(([name, description]) => (
                  <option key={name} value={name} title={description}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
            <label>
              Family
              <select
                value={String(path.family)}
                onChange={(event) => paths(setup.paths.map((one, k) => (k === i ? { ...one, family: event.currentTarget.value === '6' ? 6 : 4 } : one)))}
              >
                <option value="4">IPv4</option>
                <option value="6">IPv6</option>
              </select>
            </label>
            <label class="check">
              <input
                type="checkbox"
                checked={path.backup}
                onChange={(event) => paths(setup.paths.map((one, k) => (k === i ? { ...one, backup: event.currentTarget.checked } : one)))}
              />{' '}
              backup
            </label>
            <button type="button" disabled={setup.paths.length === 1} onClick={() => paths(setup.paths.filter((_, k) => k !== i))}>
              Take away
            </button>
          </fieldset>
        ))}
        <button
          type="button"
          disabled={setup.paths.length >= LIMITS.paths || free === undefined}
          onClick={() => paths([...setup.paths, { name: free!, family: 4, rate: 10, delay: 40, loss: 0, backup: false, up: true, box: null }])}
        >
          Another path
        </button>
      </div>
    </details>
  );
}

/** The plots' numbers, as they were told. */
export function plotsOf(setup: PlaySetup, story: Story): PlotData[] {
  const bins = story.bins.slice(0, story.last?.ended === true ? undefined : -1);
  const binTimes = bins.map((_, i) => ((i + 1) * BIN) / 1e6);
  const subflows = [...story.paths.keys()];
  const nameOf = (subflow: number): string => `${subflow} ${setup.paths[story.paths.get(subflow) ?? -1]?.name ?? 'subflow'}`;
  const colour = (subflow: number): string => colourOf(story.paths.get(subflow) ?? subflow);
  const perSubflow = (value: (one: Progress['snapshots'][number]['subflows'][number]) => number | null): PlotData['series'] =>
    setup.paths.map((path, i) => ({
      label: path.name,
      colour: colourOf(i),
      values: story.snapshots.map((shot) => {
        // A path that came back has a new subflow beside the one that was given up.
        const all = shot.subflows.filter((one) => one.interface === path.name && one.established);
        const found = all.findLast((one) => !one.stale) ?? all.at(-1);
        return found === undefined ? null : value(found);
      }),
    }));
  const shotTimes = story.snapshots.map((one) => one.at / 1e6);
  // Crosses that lie on one another are a bar: one in so many milliseconds is enough for eyes, all of them are in the CSV of the trace.
  const apart = Math.max(20_000, story.now / 120);
  let lastAck = Number.NEGATIVE_INFINITY;
  const acks = story.acknowledged.filter(([at]) => {
    if (at - lastAck < apart) return false;
    lastAck = at;
    return true;
  });
  const marks = [
    ...story.sequence.map((one) => ({ at: one.at, subflow: one.subflow, value: one.high / 1e6 })),
    ...acks.map(([at, position]) => ({ at, subflow: -1, value: position / 1e6 })),
  ].sort((a, b) => a.at - b.at);
  return [
    {
      title: 'Throughput per path',
      unit: 'Mbit/s',
      stacked: true,
      times: binTimes,
      series: setup.paths.map((path, i) => ({ label: path.name, colour: colourOf(i), kind: 'area', values: bins.map((bin) => ((bin[i] ?? 0) * 8) / BIN) })),
    },
    {
      title: 'Data sequence numbers',
      unit: 'MB',
      times: marks.map((one) => one.at / 1e6),
      series: [
        { label: 'DATA_ACK', colour: '#7a7a7a', kind: 'crosses', values: marks.map((one) => (one.subflow === -1 ? one.value : null)) },
        ...subflows.map((id) => ({
          label: nameOf(id),
          colour: colour(id),
          kind: 'points' as const,
          values: marks.map((one) => (one.subflow === id ? one.value : null)),
        })),
      ],
    },
    {
      title: 'Out-of-order queue',
      unit: 'kB',
      times: shotTimes,
      series: [{ label: 'waits for a hole', colour: '#8c6d31', kind: 'area', values: story.snapshots.map((one) => one.outOfOrder / 1000) }],
    },
    { title: 'Round-trip time', unit: 'ms', times: shotTimes, series: perSubflow((one) => (one.srtt === 0 ? null : one.srtt / 1000)) },
    { title: 'Congestion window', unit: 'kB', times: shotTimes, series: perSubflow((one) => one.cwnd / 1000) },
    { title: 'In flight', unit: 'kB', times: shotTimes, series: perSubflow((one) => one.inFlight / 1000) },
  ];
}
