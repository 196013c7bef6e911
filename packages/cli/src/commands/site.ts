/** `subflow site`: "Am I using Multipath TCP?" */
import type { AddressInfo } from 'node:net';
import { Command } from 'commander';
import { startSite } from '@subflow/web/site';
import { fail, readText, UsageError } from '../errors.ts';
import { BACKEND_HELP, openBackend, parsePort, withBackend } from '../network/backend-options.ts';
import type { BackendFlags } from '../network/backend-options.ts';
import { endpoint } from '../network/facts.ts';

const EXAMPLES = `
Examples:
  subflow site                                       on http://127.0.0.1:8090/
  subflow site --host :: --port 80 --store /var/lib/subflow-site --geoip GeoLite2-Country.mmdb
  subflow site --cert cert.pem --key key.pem --port 443 --host ::
  curl http://127.0.0.1:8090/ ; mptcpize run curl http://127.0.0.1:8090/

Pages: / (HTML, plain text for curl), /text, /json, /stats, /stats.json. Addresses are not stored.
Root (CAP_NET_RAW) lets it look at SYNs, so that it can say where Multipath TCP was lost.
${BACKEND_HELP}`;

interface Flags extends BackendFlags {
  port: string;
  host: string;
  store?: string;
  geoip?: string;
  cert?: string;
  key?: string;
  observe: boolean;
  json: boolean;
}

export function siteCommand(): Command {
  return withBackend(new Command('site'))
    .description('a small web site that tells visitors whether they use Multipath TCP')
    .option('-p, --port <port>', 'port; 0: a free one', '8090')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--store <directory>', 'keep statistics here')
    .option('--geoip <file>', 'country database (.mmdb) for the world map')
    .option('--cert <file>', 'certificate (PEM): https')
    .option('--key <file>', 'its key (PEM)')
    .option('--no-observe', 'do not look at SYNs')
    .option('--json', 'a line of JSON for each visit', false)
    .addHelpText('after', EXAMPLES)
    .action((flags: Flags) => {
      if ((flags.cert === undefined) !== (flags.key === undefined)) throw new UsageError('BAD_ARGUMENT', '--cert and --key belong together');
      const site = startSite(
        {
          multipath: openBackend(flags),
          listen: { port: parsePort(flags.port, 0), host: flags.host },
          store: flags.store ?? null,
          observe: flags.observe && flags.backend === 'kernel',
          ...(flags.geoip === undefined ? {} : { geoip: flags.geoip }),
          ...(flags.cert === undefined ? {} : { tls: { cert: readText(flags.cert), key: readText(flags.key!) } }),
          onVisit: ({ verdict }) =>
            process.stdout.write(
              flags.json
                ? `${JSON.stringify(verdict)}\n`
                : `${new Date().toISOString()} ${verdict.multipath ? `version ${verdict.version}, ${verdict.subflows.length} subflows` : `TCP (${verdict.lostAt})`}\n`,
            ),
        },
        ({ server, blind }) => {
          const { address, port } = server.address() as AddressInfo;
          process.stdout.write(`site on ${flags.cert === undefined ? 'http' : 'https'}://${endpoint(address, port)}/\n`);
          if (blind !== null && flags.observe && flags.backend === 'kernel') process.stderr.write(`SYNs are not looked at: ${blind}\n`);
        },
      );
      site.server.on('error', fail);
      for (const signal of ['SIGINT', 'SIGTERM'] as const) {
        process.on(signal, () => {
          site.close();
          process.exit(signal === 'SIGINT' ? 130 : 143);
        });
      }
    });
}
