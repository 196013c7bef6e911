/** The latest packets; one of them in words. */
import type { PlaySetup } from '@subflow/web/play';
import { colourOf } from './files.ts';
import type { PacketRow } from './messages.ts';

export function Packets(props: { setup: PlaySetup; rows: PacketRow[]; shown: { title: string; lines: string[] } | null; onShow: (number: number) => void }) {
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
