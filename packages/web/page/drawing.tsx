/** Client, paths and server, with what can be done to a path. */
import { BIN } from '@subflow/web/play';
import type { PlayPath, PlaySetup } from '@subflow/web/play';
import { colourOf } from './files.ts';
import type { Story } from './story.ts';

/** Mbit/s of each path in the last half second. */
function ratesOf(story: Story, paths: number): number[] {
  const recent = story.bins.slice(-6, -1);
  return Array.from({ length: paths }, (_, i) => (recent.length === 0 ? 0 : (recent.reduce((sum, bin) => sum + (bin[i] ?? 0), 0) * 8) / (recent.length * BIN)));
}

export function Drawing({ setup, story, onPath }: { setup: PlaySetup; story: Story; onPath: (i: number, fields: Partial<PlayPath>) => void }) {
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
