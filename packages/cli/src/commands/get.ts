/** `subflow get URL`: a download with a line for each subflow. */
import { basename } from 'node:path';
import { Command } from 'commander';
import { OutputFile, outputTarget } from '@subflow/link';
import { UsageError } from '../errors.ts';
import { download } from '../get/download.ts';
import { DownloadScreen } from '../get/screen.ts';
import { BACKEND_HELP, openBackend, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { summary } from '../network/facts.ts';
import { wordsBeside } from '../outputs.ts';

const EXAMPLES = `
Examples:
  subflow get http://server.example/big.iso
  subflow get --service aggregate -o big.iso https://server.example/big.iso
  subflow get -o - http://server.example/data | tar x
  subflow get --json -o /dev/null http://server.example/data | jq .info.subflows
${BACKEND_HELP}

Exit code 0 only when the whole answer arrived.`;

interface Flags extends BackendFlags {
  output?: string;
  json: boolean;
  quiet: boolean;
  insecure: boolean;
  header: string[];
  timeout: string;
  force: boolean;
}

export function getCommand(): Command {
  return withBackend(new Command('get'))
    .description('download a file; progress with a line for each subflow')
    .argument('<url>')
    .option('-o, --output <file>', 'where it goes; - is standard output; default: the name at the end of the URL')
    .option('--force', 'replace a file that is there', false)
    .option('-k, --insecure', 'do not check the certificate', false)
    .option('-H, --header <line>', 'a header to send; may be repeated', (value: string, all: string[]) => [...all, value], [] as string[])
    .option('--timeout <seconds>', 'give up after this long without a byte', '60')
    .option('--json', 'the result as JSON on standard output', false)
    .option('--quiet', 'no progress', false)
    .addHelpText('after', EXAMPLES)
    .action(async (text: string, flags: Flags) => {
      const url = parseUrl(text);
      const file = flags.output ?? nameOf(url);
      wordsBeside({ '--output': file }, flags.json);
      if (outputTarget(file).kind === 'file' && !flags.force)
        throw new UsageError('FILE_EXISTS', `${file} is there already; expected a new name (-o) or --force`);
      const timeout = Number(flags.timeout);
      if (!(timeout > 0)) throw new UsageError('BAD_ARGUMENT', `--timeout "${flags.timeout}"; expected a number of seconds`);
      const screen = flags.quiet || flags.json ? null : new DownloadScreen();
      const result = await download({
        url,
        output: await OutputFile.open(file),
        insecure: flags.insecure,
        headers: Object.fromEntries(flags.header.map(parseHeader)),
        timeout: timeout * 1000,
        multipath: openBackend(flags),
        onProgress: (progress) => screen?.update(progress),
      });
      screen?.update({ received: result.received, expected: result.received, info: result.info }, true);
      if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
      else if (!flags.quiet)
        process.stderr.write(`${file === '-' ? 'standard output' : file}: ${result.received} bytes, SHA-256 ${result.sha256}, ${summary(result.info)}\n`);
      process.exit(0);
    });
}

/** The name at the end of the path. */
function nameOf(url: URL): string {
  try {
    return basename(decodeURIComponent(url.pathname)) || 'index.html';
  } catch {
    throw new UsageError('BAD_URL', `"${url.pathname}" has no name that can be decoded; expected --output with one`);
  }
}

function parseUrl(text: string): URL {
  try {
    return new URL(text.includes('://') ? text : `http://${text}`);
  } catch {
    throw new UsageError('BAD_URL', `"${text}" is no URL; expected one such as http://server.example/file`);
  }
}

function parseHeader(line: string): [string, string] {
  const at = line.indexOf(':');
  if (at <= 0) throw new UsageError('BAD_HEADER', `--header "${line}"; expected NAME: VALUE`);
  return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
}
