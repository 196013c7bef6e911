/** A plot for xplot (jPlot, xplot.org): the format of tcptrace and mptcptrace. */
import { PALETTE } from './plot.ts';
import type { Plot } from './plot.ts';

/** xplot's colours nearest to ours. */
const COLORS = ['blue', 'orange', 'green', 'magenta', 'red', 'purple', 'yellow', 'white'] as const;

export function* xplotLines(plot: Plot): Generator<string> {
  yield 'double double';
  yield 'title';
  yield plot.title;
  yield 'xlabel';
  yield 'time, s';
  yield 'ylabel';
  yield plot.yTitle;
  for (const one of plot.series) {
    const index = PALETTE.indexOf(one.color.slice(0, 7) as (typeof PALETTE)[number]);
    yield index >= 0 ? COLORS[index]! : one.strong === true ? 'red' : 'white';
    for (let i = 0; i < one.x.length; i++) {
      const x = one.x[i]!.toFixed(6);
      switch (one.shape) {
        case 'segments':
        case 'area':
          yield `line ${x} ${one.y[i]} ${x} ${one.y2![i]}`;
          break;
        case 'points':
          yield `dot ${x} ${one.y[i]}`;
          break;
        case 'crosses':
          yield `x ${x} ${one.y[i]}`;
          break;
        case 'bars':
          if (i % 2 === 0) yield `line ${x} ${one.y[i]} ${one.x[i + 1]!.toFixed(6)} ${one.y[i]}`;
          break;
        default:
          if (i > 0) yield `line ${one.x[i - 1]!.toFixed(6)} ${one.y[i - 1]} ${x} ${one.y[i]}`;
      }
    }
  }
  for (const mark of plot.marks) {
    yield 'red';
    yield `atext ${mark.x.toFixed(6)} ${plot.yMax}`;
    yield mark.label;
  }
  yield 'go';
}
