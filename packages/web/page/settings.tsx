/** What a run is made of. */
import { CONTROLLER_NAMES, COUPLED_NAMES, LIMITS, MIDDLEBOX_NAMES, PATH_MANAGERS, SCHEDULER_NAMES, SERVICE_NAMES, TRAFFIC } from '@subflow/web/play';
import type { PlayPath, PlaySetup } from '@subflow/web/play';

export function Settings({ setup, onChange }: { setup: PlaySetup; onChange: (next: PlaySetup) => void }) {
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
