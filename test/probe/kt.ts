import { KernelPathWorld } from './kernel-path.ts';
const world = new KernelPathWorld(3);
try {
  await world.startAndWait(world.server, process.execPath, ['scripts/run.mjs', 'test/probe/kernel-http.ts', '8080', ...(process.env.PLAIN ? ['plain'] : [])]);
  if (process.env.SYSCTL) world.server.sysctl(process.env.SYSCTL.split('=')[0]!, process.env.SYSCTL.split('=')[1]!);
  if (process.env.SIGNAL) { world.server.ip('address', 'add', '198.51.100.1/32', 'dev', 'lo'); world.server.run('ip', 'mptcp', 'endpoint', 'add', '198.51.100.1', 'signal'); }
  const r = await world.run(world.client, process.execPath, ['packages/cli/bin/subflow.mjs', 'probe', `${process.env.V6 ? `[${world.serverAddress6}]` : world.serverAddress}:8080`, '--closed-port', '81', ...process.argv.slice(2)]);
  console.log(r.stdout, r.stderr, r.code);
} finally { world.remove(); }
