/** YAML and JSON files of users. */
import { parseDocument } from 'yaml';
import { ProbeError } from './errors.ts';

/** The value in a text. Throws {@link ProbeError} `BAD_PROBE`, naming file and place. */
export function readYaml(text: string, file: string): unknown {
  const document = parseDocument(text);
  const problem = document.errors[0];
  if (problem !== undefined) throw new ProbeError('BAD_PROBE', `${file}: ${problem.message}`);
  try {
    return document.toJS();
  } catch (error) {
    // An alias without its anchor, or too many of them, is found only here.
    throw new ProbeError('BAD_PROBE', `${file}: ${(error as Error).message}`, { cause: error });
  }
}
