/** The playground: client, paths, server; what to send; what comes of it. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { DEFAULT_SETUP, LESSONS, setupFromText, setupToText, setupToYaml } from '@subflow/web/play';
import type { PlayAction, PlayPath, PlaySetup, Progress } from '@subflow/web/play';
import { Drawing } from './drawing.tsx';
import { download } from './files.ts';
import type { FromWorker, PacketRow, ToWorker } from './messages.ts';
import { Packets } from './packets.tsx';
import { Plot } from './plot.tsx';
import { Settings } from './settings.tsx';
import { EMPTY, grown, plotsOf } from './story.ts';
import type { Story } from './story.ts';

const SPEEDS = [0.01, 0.05, 0.2, 0.5, 1, 2, 5, 20] as const;
const SAVED = 'subflow playground';

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
