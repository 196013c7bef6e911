/** The report for terminals. */

import type { ReportedStep } from '../conversation/run.ts';
import { packetsOf } from './report.ts';
import type { HopLine, ProbeReport, WalkReport } from './report.ts';

export type Paint = (kind: 'good' | 'bad' | 'warn' | 'dim' | 'bold', text: string) => string;

/** Changes shown behind a hop. */
const MOST_CHANGES = 3;

const PLAIN: Paint = (_, text) => text;
const MARKS: Record<ReportedStep['judgement'], [string, Parameters<Paint>[0]]> = {
  conforms: ['✓', 'good'],
  'known deviation': ['~', 'warn'],
  'new deviation': ['✗', 'bad'],
  'not run': ['·', 'dim'],
};

/** `packets`: with what was sent and what came back in each step. */
export function reportText(report: ProbeReport, paint: Paint = PLAIN, packets = false): string[] {
  const out: string[] = [paint('bold', report.target), ''];
  for (const line of report.verdict) out.push(...wrapped(line));
  if (report.conversation !== null && report.conversation.steps.length > 0) {
    out.push(
      '',
      paint(
        'bold',
        `Conversation${report.conversation.version === null ? '' : `, version ${report.conversation.version}`} (${(report.conversation.microseconds / 1e6).toFixed(1)} s)`,
      ),
    );
    for (const step of report.conversation.steps) {
      out.push(...stepLines(step, paint));
      if (!packets) continue;
      for (const one of packetsOf(report, step.id)) {
        const arrow = one.direction === 'out' ? '→' : '←';
        out.push(
          paint(
            'dim',
            `      ${(one.at / 1000).toFixed(1).padStart(9)} ms ${arrow} ${one.packet}${one.options.length > 0 ? `  ${one.options.join(' ')}` : ''}`,
          ),
        );
      }
    }
  }
  if (report.path !== null) {
    for (const walk of report.path.walks.filter(worthShowing)) out.push('', ...walkLines(walk, paint));
    if (report.path.notes.length > 0) out.push('', ...report.path.notes.map((note) => paint('dim', `Note: ${note}`)));
  }
  return out;
}

/** One step: what was seen, and what was wanted when that is something else. */
export function stepLines(step: ReportedStep, paint: Paint = PLAIN): string[] {
  const [mark, kind] = MARKS[step.judgement];
  const more = step.details.length > 0 ? paint('dim', `  (${step.details.join('; ')})`) : '';
  const lines = [`  ${paint(kind, mark)} ${step.title.padEnd(66)} ${step.outcome}${more}`];
  if (step.judgement === 'known deviation' || step.judgement === 'new deviation') {
    const who = step.known.filter((one) => one.agrees).map((one) => one.name);
    const wanted = step.requires === null ? '' : `${step.requires.section}: ${step.requires.text} (${step.requires.outcomes.join(' or ')})`;
    lines.push(paint('dim', `      ${wanted}${who.length > 0 ? `; ${who.join(', ')} does the same` : ''}`));
  }
  return lines;
}

/** SYN and whatever shows a change; the rest is in JSON and on the page. */
function worthShowing(walk: WalkReport): boolean {
  return walk.stage === 'syn' || walk.hops.some((hop) => hop.routers.some((router) => router.differences.length > 0));
}

export function walkLines(walk: WalkReport, paint: Paint = PLAIN): string[] {
  const title = `${walk.direction === 'forward' ? 'Walk' : 'Walk of the server'}: ${walk.stage}`;
  const out = [paint('bold', title), `  ${walk.sent}`];
  for (const option of walk.options) out.push(paint('dim', `  option 30: ${option}`));
  for (const hop of walk.hops) out.push(...hopLines(hop, paint));
  return out;
}

function hopLines(hop: HopLine, paint: Paint): string[] {
  if (hop.routers.length === 0) return [`  ${String(hop.ttl).padStart(2)}: *`];
  return hop.routers.map((router, i) => {
    const number = i === 0 ? `${String(hop.ttl).padStart(2)}:` : '   ';
    const name = router.name === null ? router.address : `${router.name} (${router.address})`;
    const labels = router.labels === '' ? '' : ` MPLS ${router.labels}`;
    const changes = router.differences.map((one) => {
      const text = one.change === 'changed' ? `${one.field}: ${one.before} → ${one.after}` : `${one.change === 'removed' ? '-' : '+'}${one.field}`;
      return paint(one.change === 'removed' ? 'bad' : 'warn', text);
    });
    return `  ${number} ${name.padEnd(28)} ${(router.rtt / 1000).toFixed(1).padStart(6)} ms  ${String(router.quoted).padStart(4)} octets of TCP${labels}${changes.length > 0 ? `  ${changes.slice(0, MOST_CHANGES).join(', ')}${changes.length > MOST_CHANGES ? `, and ${changes.length - MOST_CHANGES} more` : ''}` : ''}`;
  });
}

function wrapped(text: string, width = 110): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > width) {
      lines.push(line);
      line = `  ${word}`;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
