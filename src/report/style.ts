import pc from 'picocolors';

type Paint = (text: string) => string;

export interface Style {
  readonly red: Paint;
  readonly yellow: Paint;
  readonly green: Paint;
  readonly cyan: Paint;
  readonly dim: Paint;
  readonly bold: Paint;
}

/** Colours, or with `colour` false the text as it is. */
export function makeStyle(colour: boolean): Style {
  const { red, yellow, green, cyan, dim, bold } = pc.createColors(colour);
  return { red, yellow, green, cyan, dim, bold };
}
