/** `subflow web`: the page. */
import { Command } from 'commander';
import { startPage } from '@subflow/web/node';
import { parsePort } from '../network/backend-options.ts';

const EXAMPLES = `
Examples:
  subflow web                          playground, capture viewer, and this machine's connections, on http://127.0.0.1:8095/
  subflow web --port 0                 a free port
  ip netns exec NAME subflow web       the connections of another namespace

The playground and the capture viewer need no server: packages/web/dist/page is a static site. What the page shows of this machine, and
the controls of endpoints and limits (root), are for whoever has the token in the printed link.`;

export function webCommand(): Command {
  return new Command('web')
    .description('see Multipath TCP work: playground, capture viewer, dashboard, in a browser')
    .option('-p, --port <port>', 'port; 0: a free one', '8095')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--token <text>', 'of the dashboard; default: a new one each time')
    .option('--json', 'a line of JSON when it is ready')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: { port: string; host: string; token?: string; json?: boolean }) => {
      const page = await startPage({ host: flags.host, port: parsePort(flags.port, 0), ...(flags.token === undefined ? {} : { token: flags.token }) });
      const live = `${page.url}#machine=${page.token}`;
      process.stdout.write(
        flags.json === true
          ? `${JSON.stringify({ url: page.url, live, token: page.token })}\n`
          : `playground    ${page.url}\nthis machine  ${live}\nCtrl-C ends it\n`,
      );
      const stop = (): void => {
        page.close();
        process.exit(0);
      };
      process.once('SIGINT', stop);
      process.once('SIGTERM', stop);
    });
}
