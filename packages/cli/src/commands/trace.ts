/** `subflow trace …`: what happened in this capture? */
import { Command } from 'commander';
import { fieldsCommand, packetsCommand } from './trace/packets.ts';

export function traceCommand(): Command {
  const trace = new Command('trace').description('analyse captures: connections, subflows, what happened and why').enablePositionalOptions();
  for (const make of [packetsCommand, fieldsCommand]) trace.addCommand(make().copyInheritedSettings(trace));
  return trace;
}
