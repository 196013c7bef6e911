/** The farm in a worker of its own: it is loaded when somebody looks at it. */
import { FarmRun } from '@subflow/web/farm';
import type { FarmDesign, FarmState } from '@subflow/web/farm';

export type ToFarm = { do: 'begin'; design: FarmDesign } | { do: 'open' | 'add' | 'drain' | 'crash' | 'replace' };

const scope = self as unknown as { postMessage(message: FarmState): void; onmessage: ((event: MessageEvent<ToFarm>) => void) | null };
let run = new FarmRun('f');

scope.onmessage = ({ data }) => {
  switch (data.do) {
    case 'begin':
      run = new FarmRun(data.design);
      run.open(60);
      break;
    case 'open':
      run.open(20);
      break;
    case 'add':
      run.addServer();
      break;
    case 'drain':
      run.drain();
      break;
    case 'crash':
      run.crash();
      break;
    case 'replace':
      run.replace();
      break;
  }
  scope.postMessage(run.state());
};
