// The REST peer: Express, pg and Socket.IO in one process, as one writes it first.
//
// It creates and reads episodes, and writes activity, notification and audit rows after its answer without
// waiting for them: whoever kills it loses those that are on their way. Environment: how pg finds its database
// (PGHOST, PGUSER, PGDATABASE), and the SECRET of tokens; without one nobody is asked for a token.
import { createServer } from 'node:http';
import express from 'express';
import jwt from 'jsonwebtoken';
import pg from 'pg';
import { Server } from 'socket.io';

const STATUSES = ['draft', 'in_review', 'approved', 'published', 'archived'];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const COLUMNS =
  'id, title, episode_number, description, status, categories, version, created_by, created_at, updated_at';

// Named statements are prepared once per connection.
const SQL = {
  read: { name: 'read', text: `select ${COLUMNS} from episodes where id = $1` },
  create: {
    name: 'create',
    text: `insert into episodes (title, episode_number, description, status, categories, created_by)
           values ($1, $2, $3, $4, $5, $6) returning ${COLUMNS}`,
  },
  activity: {
    name: 'activity',
    text: `insert into activity_logs
             (user_id, action, resource_type, resource_id, metadata, ip_address, user_agent)
           values ($1, 'CREATE', 'episode', $2, $3, $4, $5)`,
  },
  notification: {
    name: 'notification',
    text: `insert into notifications (user_id, type, title, message, resource_type, resource_id)
           values ($1, 'episode_created', 'Episode created', $2, 'episode', $3)`,
  },
  audit: {
    name: 'audit',
    text: `insert into audit_logs (user_id, action, resource_type, resource_id, new_values)
           values ($1, 'CREATE', 'episode', $2, $3)`,
  },
};

const pool = new pg.Pool({ max: 10 });
const query = (statement, values) => pool.query({ ...statement, values });

const app = express();
const server = createServer(app);
const realTime = new Server(server, { serveClient: false }).of('/real-time');

class Refusal extends Error {
  constructor(status, message, errors) {
    super(message);
    Object.assign(this, { status, errors });
  }
}

function identify(req, res, next) {
  if (!process.env.SECRET) {
    req.user = 'bench@example.com';
    return next();
  }
  const [kind, token] = (req.get('authorization') ?? '').split(' ');
  if (kind.toLowerCase() !== 'bearer') throw new Refusal(401, 'send Authorization: Bearer <token>');
  try {
    req.user = jwt.verify(token, process.env.SECRET, { algorithms: ['HS256'] }).sub;
  } catch (error) {
    throw new Refusal(401, error.message);
  }
  next();
}

function fieldsOf(body) {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) throw new Refusal(400, 'send an object');
  const { title, episode_number: number = null, description = null, status = 'draft', categories = [] } = body;
  const errors = [];
  const check = (field, isGood, message) => isGood || errors.push({ field, message });
  check('title', typeof title === 'string' && title.trim() && title.length <= 200, '1 to 200 characters');
  check('episode_number', number === null || (Number.isInteger(number) && number >= 0), 'null, or at least 0');
  check('description', description === null || typeof description === 'string', 'null, or text');
  check('status', STATUSES.includes(status), `one of ${STATUSES.join(', ')}`);
  check('categories', Array.isArray(categories) && categories.every((c) => typeof c === 'string'), 'texts');
  if (errors.length) throw new Refusal(422, 'some fields are wrong', errors);
  return [title, number, description, status, categories];
}

function afterCreate(req, episode) {
  const { id, title, episode_number, status, categories } = episode;
  const metadata = { title, categories, status };
  const written = [
    query(SQL.activity, [req.user, id, metadata, req.ip, req.get('user-agent')]),
    query(SQL.notification, [req.user, `Episode '${title}' created successfully`, id]),
    query(SQL.audit, [req.user, id, episode]),
  ];
  Promise.all(written).catch(console.error);
  realTime.emit('episode_created', {
    episode: { id, title, episode_number, status, categories },
    createdBy: req.user,
    timestamp: new Date().toISOString(),
  });
}

const episodes = express.Router();
episodes.use(identify);

episodes.get('/:id', async (req, res) => {
  if (!UUID.test(req.params.id)) throw new Refusal(400, 'id must be a UUID');
  const { rows } = await query(SQL.read, [req.params.id]);
  if (!rows[0]) throw new Refusal(404, 'no such episode');
  res.json(rows[0]);
});

episodes.post('/', async (req, res) => {
  const { rows } = await query(SQL.create, [...fieldsOf(req.body), req.user]);
  res.status(201).location(`${req.baseUrl}/${rows[0].id}`).json(rows[0]);
  afterCreate(req, rows[0]);
});

app.disable('x-powered-by');
app.use(express.json({ limit: '1mb' }));
app.use('/api/v1/episodes', episodes);
app.use((error, req, res, next) => {
  if (res.headersSent) return next(error);
  const status = error.status ?? 500;
  if (status >= 500) console.error(error);
  res.status(status).json({ status, detail: error.message, errors: error.errors });
});

server.listen(0, '127.0.0.1', () => console.log(`ready on ${server.address().port}`));
process.once('SIGTERM', () => process.exit(0));
