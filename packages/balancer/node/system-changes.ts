/** What a data plane changes on the system, written down before it is done: taken back at the end, or at the next start after a crash. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { command, LinkError, writeOutputSync } from '@subflow/link';

const DIRECTORY = '/run/subflow';

export class SystemChanges {
  private readonly file: string;
  private undo: string[][] = [];

  /** Takes back first what a killed process of this name left. */
  constructor(name: string) {
    mkdirSync(DIRECTORY, { recursive: true });
    this.file = join(DIRECTORY, `lb-${name}.undo`);
    if (existsSync(this.file)) {
      this.undo = JSON.parse(readFileSync(this.file, 'utf8')) as string[][];
      this.takeBack();
    }
  }

  /** Runs a command, once its opposite is written down. Throws {@link LinkError}. */
  run(does: readonly string[], opposite: readonly string[] | null): void {
    if (opposite !== null) {
      this.undo.push([...opposite]);
      writeOutputSync(this.file, JSON.stringify(this.undo));
    }
    command(does[0]!, does.slice(1));
  }

  /** Sets a kernel setting, and back to what it was. */
  sysctl(key: string, value: string): void {
    const before = command('sysctl', ['-n', key]).trim();
    if (before !== value) this.run(['sysctl', '-q', '-w', `${key}=${value}`], ['sysctl', '-q', '-w', `${key}=${before}`]);
  }

  takeBack(): void {
    for (const one of this.undo.reverse()) {
      try {
        command(one[0]!, one.slice(1));
      } catch (error) {
        // Gone already, with its interface for instance: that is what was wanted.
        if (!(error instanceof LinkError)) throw error;
      }
    }
    this.undo = [];
    rmSync(this.file, { force: true });
  }
}
