import { z } from 'zod';
import { version } from '../../src/core/version.ts';
import { profileSchema, siteSchema } from '../../src/site/schema.ts';
import { type Block, heading, item, type Page, paragraph, verbatim } from './page.ts';

/** What is used here of a JSON Schema. */
const schemaNode = z.object({
  type: z.string().optional(),
  description: z.string().optional(),
  const: z.union([z.string(), z.number()]).optional(),
  enum: z.array(z.union([z.string(), z.number()])).optional(),
  get items() {
    return schemaNode.optional();
  },
  get properties() {
    return z.record(z.string(), schemaNode).optional();
  },
  get additionalProperties() {
    return z.union([z.boolean(), schemaNode]).optional();
  },
  required: z.array(z.string()).optional(),
  get anyOf() {
    return z.array(schemaNode).optional();
  },
});
export type SchemaNode = z.output<typeof schemaNode>;

/** The kind of value, in words. */
export function kindOf(node: SchemaNode): string {
  if (node.const !== undefined) return String(node.const);
  if (node.enum !== undefined) return `one of ${node.enum.map(String).join(', ')}`;
  if (node.anyOf !== undefined) return node.anyOf.map(kindOf).join(', or ');
  switch (node.type) {
    case 'array':
      return node.items?.properties === undefined
        ? `list of: ${node.items === undefined ? 'values' : kindOf(node.items)}`
        : 'list of maps';
    case 'object':
      return node.properties === undefined ? 'map by name' : 'map';
    case 'integer':
      return 'whole number';
    case 'boolean':
      return 'true or false';
    case 'string':
      return 'text';
    case undefined:
    default:
      return node.type ?? 'value';
  }
}

function descriptionOf({ description }: SchemaNode): string[] {
  return description === undefined ? [] : [description];
}

/** The keys of a map below `path`, each with what is below it. */
function keys(node: SchemaNode, path: string): Block[] {
  const required = new Set(node.required);
  return Object.entries(node.properties ?? {}).map(([key, value]) => {
    const here = path === '' ? key : `${path}.${key}`;
    const kind = `(${kindOf(value)}${required.has(key) ? '; required' : ''})`;
    return item(here, [...descriptionOf(value), kind], below(value, here));
  });
}

function below(node: SchemaNode, path: string): Block[] {
  if (node.properties !== undefined) return keys(node, path);
  const map = [node.items, ...(node.items?.anyOf ?? [])].find((each) => each?.properties !== undefined);
  if (map !== undefined) return keys(map, `${path}[]`);
  const named = node.additionalProperties;
  if (typeof named !== 'object') return [];
  const here = `${path}.NAME`;
  return [item(here, descriptionOf(named)), ...keys(named, here)];
}

function nodeOf(schema: z.ZodType): SchemaNode {
  return schemaNode.parse(z.toJSONSchema(schema, { target: 'draft-7', io: 'input' }));
}

const rules =
  'YAML. An unknown key, a wrong type or a missing file is refused with file, line and column, what is allowed and the\nnearest right spelling. JSON Schemas for editors are in /usr/share/relive/schemas.';

/**
 * relive.yaml(5) and relive-profile(5).
 * @param samples a site and a profile to show
 */
export function formatPages(samples: { readonly site: string; readonly profile: string }): Page[] {
  return [
    {
      name: 'relive.yaml',
      section: 5,
      summary: 'a site of relive: repositories, and where things are kept',
      version,
      body: [
        heading('Description'),
        paragraph(
          'The file relive.yaml makes a directory a site. Paths in it are from that directory, or absolute.',
        ),
        paragraph(rules),
        heading('Keys'),
        ...keys(nodeOf(siteSchema), ''),
        heading('Example'),
        verbatim(samples.site),
      ],
      seeAlso: ['relive(1)', 'relive-init(1)', 'relive-mirror-sync(1)', 'relive-profile(5)'],
    },
    {
      name: 'relive-profile',
      section: 5,
      summary: 'a profile of relive: what a system is',
      version,
      body: [
        heading('Description'),
        paragraph(
          'A profile is a file profiles/NAME.yaml of a site. It may extend others: lists are joined, maps merged, and what exclude\nnames is taken out of the lists.',
        ),
        paragraph(rules),
        heading('Keys'),
        ...keys(nodeOf(profileSchema), ''),
        heading('Example'),
        verbatim(samples.profile),
      ],
      seeAlso: [
        'relive(1)',
        'relive-profile-check(1)',
        'relive-profile-show(1)',
        'relive-build(1)',
        'relive.yaml(5)',
      ],
    },
  ];
}
