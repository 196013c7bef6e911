/** The capture viewer: drop a file, see what happened. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { FromCapture } from './capture-worker.ts';
import { download } from './files.ts';

type Result = Extract<FromCapture, { type: 'done' }>;

export function Capture(_props: { theme: string }) {
  const [state, setState] = useState<{ name: string; share: number; packets: number } | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [problem, setProblem] = useState('');
  const [over, setOver] = useState(false);
  const worker = useRef<Worker | null>(null);
  useEffect(() => () => worker.current?.terminate(), []);

  const open = (file: File | undefined): void => {
    if (file === undefined) return;
    worker.current?.terminate();
    setResult(null);
    setProblem('');
    setState({ name: file.name, share: 0, packets: 0 });
    const own = new Worker(new URL('./capture-worker.ts', import.meta.url), { type: 'module' });
    worker.current = own;
    own.onmessage = ({ data }: MessageEvent<FromCapture>) => {
      if (data.type === 'progress') setState({ name: file.name, share: data.share, packets: data.packets });
      else if (data.type === 'done') setResult(data);
      else setProblem(`${file.name}: ${data.message}`);
    };
    own.onerror = (event) => setProblem(`${file.name} could not be read: ${event.message}`);
    own.postMessage(file);
  };

  return (
    <div class="capture">
      <label
        class={over ? 'drop over' : 'drop'}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          open(event.dataTransfer?.files[0]);
        }}
      >
        <input type="file" accept=".pcap,.pcapng,.cap" onChange={(event) => open(event.currentTarget.files?.[0])} />
        <strong>Drop a pcap or pcapng here</strong>
        <span class="soft">It is read in this page and goes nowhere.</span>
      </label>
      {problem !== '' && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {state !== null && result === null && problem === '' && (
        <p role="status">
          <progress max={1} value={state.share} aria-label="Read" /> {state.name}: {state.packets.toLocaleString('en')} packets
        </p>
      )}
      {result !== null && (
        <>
          <p role="status" data-testid="totals">
            <b>{state!.name}</b>: {result.packets.toLocaleString('en')} packets, {result.seconds.toFixed(3)} s,{' '}
            {(result.totals['mptcpConnections'] ?? 0).toLocaleString('en')} Multipath TCP connections
            {result.damage === null ? '' : `. The file is damaged: ${result.damage}; what came before is shown.`}
          </p>
          <details>
            <summary>All counts</summary>
            <table>
              <tbody>
                {Object.entries(result.totals).map(([name, value]) => (
                  <tr key={name}>
                    <th>{name}</th>
                    <td class="number" data-total={name}>
                      {value}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </details>
          {result.connections.map((one) => (
            <section key={one.index} class="connection" aria-label={one.title}>
              <pre tabIndex={0}>{one.lines.join('\n')}</pre>
              <div class="graphs">
                {one.graphs.map((graph) => (
                  <Graph key={graph.name} title={`${one.title}, ${graph.name}`} svg={graph.svg} />
                ))}
              </div>
            </section>
          ))}
          {result.more > 0 && <p class="soft">and {result.more} smaller connections (`subflow trace --all`)</p>}
        </>
      )}
    </div>
  );
}

/** As an image: what a capture holds never becomes part of the page. */
function Graph({ title, svg }: { title: string; svg: string }) {
  const [url, setUrl] = useState('');
  useEffect(() => {
    const own = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
    setUrl(own);
    return () => URL.revokeObjectURL(own);
  }, [svg]);
  return (
    <figure>
      {url !== '' && <img src={url} alt={title} loading="lazy" />}
      <figcaption>
        {title}{' '}
        <button type="button" onClick={() => download(`${title}.svg`, new Blob([svg], { type: 'image/svg+xml' }))}>
          SVG
        </button>
      </figcaption>
    </figure>
  );
}
