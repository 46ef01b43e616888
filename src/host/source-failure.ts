import { messageOf, systemCode } from '../core/error.ts';

/**
 * Why one source did not deliver:
 * absent: it says that it has no such file
 * refused: asking it again will not help
 * unreachable: no connection came about
 * broken: the answer broke off, or the server had trouble; asking again may help
 * wrong: it delivered something else than what is expected
 */
export class SourceFailure extends Error {
  readonly kind: 'absent' | 'refused' | 'unreachable' | 'broken' | 'wrong';
  readonly url: string;
  /** The pause that the server asks for, in seconds (RFC 9110, 10.2.3). */
  readonly retryAfter: number | undefined;

  constructor(
    kind: SourceFailure['kind'],
    url: string,
    reason: string,
    options: { readonly cause?: unknown; readonly retryAfter?: number | undefined } = {},
  ) {
    super(reason, { cause: options.cause });
    this.kind = kind;
    this.url = url;
    this.retryAfter = options.retryAfter;
  }
}

const unreachableCodes = new Set([
  ...['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'ETIMEDOUT'],
  'UND_ERR_CONNECT_TIMEOUT',
]);
const unreachableReasons: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name of the host is unknown',
  EAI_AGAIN: 'the name of the host cannot be resolved',
  ECONNREFUSED: 'the connection is refused',
  ENETUNREACH: 'there is no way to its network',
  EHOSTUNREACH: 'there is no way to the host',
  ENETDOWN: 'the network is down',
  ETIMEDOUT: 'no answer to the connection',
  UND_ERR_CONNECT_TIMEOUT: 'no answer to the connection',
};

/** The failure for an error of the network; a refused certificate is final. */
export function failureOf(error: unknown, url: string): SourceFailure {
  if (error instanceof SourceFailure) return error;
  const code = systemCode(error) ?? '';
  const cause = error;
  if (unreachableCodes.has(code)) {
    return new SourceFailure('unreachable', url, unreachableReasons[code] ?? messageOf(error), { cause });
  }
  if (/CERT|UNABLE_TO_|SELF_SIGNED|ERR_TLS|ERR_SSL|UND_ERR_PRX_TLS/.test(code)) {
    return new SourceFailure('refused', url, `the encrypted connection is refused: ${messageOf(error)}`, {
      cause,
    });
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return new SourceFailure('broken', url, 'the server fell silent', { cause });
  }
  return new SourceFailure('broken', url, `the answer broke off: ${messageOf(error)}`, { cause });
}
