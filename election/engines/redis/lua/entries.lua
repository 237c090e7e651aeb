-- Entries that a term writes, one function each; P3 is enforced here. After job_index.lua, before changes.lua and
-- write.lua.
local term, bounds = ARGV[2], ARGV[3]
local last = call('GET', p .. 'term') or '0'
if term == '' then
  term = last
elseif tonumber(last) > tonumber(term) then
  return redis.error_reply('STALE ' .. last)
end

local does = {}

-- Add to a counter; one that is no number, for example of another version, begins anew: it stops no job and no election.
local function add(command, key, field, by)
  local done = redis.pcall(command, key, field, by)
  if type(done) == 'table' and done.err then
    try('HSET', key, field, by)
  end
end

local function count(key, what, seconds)
  local label = '+Inf'
  for bound in string.gmatch(bounds, '%S+') do
    if seconds <= tonumber(bound) then
      label = bound
      break
    end
  end
  add('HINCRBY', key, what .. ' ' .. label, 1)
  add('HINCRBYFLOAT', key, what .. ' total', string.format('%.6f', seconds))
end

-- Key of the counters of a job; jobs that were added at run time share those of their function.
local function totals_of(job)
  local func = call('HGET', p .. 'job:' .. job, 'func')
  local label = func and 'added:' .. func or job
  try('SADD', p .. 'counted', label)
  return p .. 'totals:' .. label
end

-- Seconds between two times; a time of a row that cannot be read counts as the other one.
local function between(earlier, later)
  local first, second = tonumber(earlier), tonumber(later)
  return first and second and math.max(0, second - first) / 1e6 or 0
end

-- The run of a tick: its number, and whether it is open.
local function run_of(job, due, request)
  for _, member in ipairs(call('ZRANGEBYSCORE', p .. 'run_dues:' .. job, due, due)) do
    local seq = string.match(member, '^' .. request .. ':(%d+)$')
    if seq then
      return seq, call('ZSCORE', p .. 'open', seq)
    end
  end
end

-- seen: start of the schedule by which the tick fell due, or ''; ticks of a schedule that is over settle nothing.
local function account(job, to, since, seen)
  local key = p .. 'job:' .. job
  local row = call('HMGET', key, 'settled_until', 'scheduled_since')
  local before = tonumber(row[1] or '')
  if not before or not (before < tonumber(since)) or (seen ~= '' and seen ~= row[2]) then
    return false
  end
  call('HSET', key, 'settled_until', to)
  try('ZADD', p .. 'settled', 'XX', to, job)
  return true
end

local function done(request, at, outcome, reason, run)
  if request ~= '0' and call('EXISTS', p .. 'request:' .. request) == 1 then
    call('HSET', p .. 'request:' .. request, 'done_at', at, 'outcome', outcome, 'reason', reason, 'run', run)
    call('ZREM', p .. 'requests', request)
    try('ZADD', p .. 'done', at, request)
  end
end

local function close_epoch(job, to)
  local since = call('HGET', p .. 'epoch', job)
  if since then
    try('HSET', p .. 'epochs:' .. job, since .. ':until', to)
    try('ZADD', p .. 'closed', to, since .. ' ' .. job)
    try('HDEL', p .. 'epoch', job)
  end
end

function does.claim(job, due, request, at, seen, limit)
  if request == '0' and not account(job, due, due, seen) then
    return 0
  end
  local before = run_of(job, due, request)
  if before then
    done(request, at, 'ran', '', before)
    return 0
  end
  local seq = call('INCR', p .. 'run_seq')
  call('HSET', p .. 'run:' .. seq, 'job_id', job, 'due', due, 'request', request, 'term', term,
    'first_term', term, 'attempt', '1', 'at', at)
  if limit ~= '' then
    call('HSET', p .. 'run:' .. seq, 'max_instances', limit)
  end
  local kwargs = request ~= '0' and call('HGET', p .. 'request:' .. request, 'kwargs')
  if kwargs then
    call('HSET', p .. 'run:' .. seq, 'kwargs', kwargs)
  end
  done(request, at, 'ran', '', seq)
  call('ZADD', p .. 'runs', seq, seq)
  try('ZADD', p .. 'runs:' .. job, seq, seq)
  call('ZADD', p .. 'run_dues:' .. job, due, request .. ':' .. seq)
  call('ZADD', p .. 'open', seq, seq)
  return 1
end

function does.settle(job, due, request, outcome, at, error, started, began, ended)
  local seq, open = run_of(job, due, request)
  if not open then
    return 0
  end
  local claimed = call('HGET', p .. 'run:' .. seq, 'at')
  call('HSET', p .. 'run:' .. seq, 'outcome', outcome, 'ended_at', at)
  if error ~= '' then
    call('HSET', p .. 'run:' .. seq, 'error', error)
  end
  if started ~= '' then
    call('HSETNX', p .. 'run:' .. seq, 'started_at', started)
  end
  if ended ~= '' then
    call('HSET', p .. 'run:' .. seq, 'began_us', began, 'ended_us', ended)
  end
  call('ZREM', p .. 'open', seq)
  if outcome ~= 'succeeded' then
    try('ZADD', p .. 'troubled', seq, seq)
  end
  local totals = totals_of(job)
  add('HINCRBY', totals, 'runs ' .. outcome, 1)
  if outcome == 'succeeded' and tonumber(at) > (tonumber(call('HGET', totals, 'success latest') or 0) or 0) then
    try('HSET', totals, 'success latest', at)
  end
  if request == '0' then
    count(totals, 'lateness', between(due, call('HGET', p .. 'run:' .. seq, 'started_at') or claimed))
  end
  if outcome ~= 'interrupted' then
    count(totals, 'duration', between(claimed, at))
  end
  return 1
end

-- Return value of a requested run.
function does.result(request, value)
  local key = p .. 'request:' .. request
  return call('EXISTS', key) == 1 and call('HSET', key, 'result', value) or 0
end

function does.retry(job, due, request, attempt, started)
  local seq, open = run_of(job, due, request)
  if not open then
    return 0
  end
  local key = p .. 'run:' .. seq
  local row = call('HMGET', key, 'attempts', 'attempt', 'term')
  local line = row[2] .. ' ' .. row[3] .. ' ' .. attempt
  call('HSET', key, 'attempts', row[1] and (row[1] .. '\n' .. line) or line, 'term', term)
  call('HINCRBY', key, 'attempt', 1)
  if started ~= '' then
    call('HSETNX', key, 'started_at', started)
  end
  return 1
end

-- Keep at most `most` of the logs that a list names.
local function keep_latest(list, most)
  while call('LLEN', list) > tonumber(most) do
    local seq, attempt = string.match(call('RPOP', list), '^(%d+) (%d+)$')
    try('HDEL', p .. 'log:' .. seq, attempt)
  end
end

function does.log(job, due, request, attempt, kind, text, most, most_in_all)
  local seq = run_of(job, due, request)
  if not seq or try('HSETNX', p .. 'log:' .. seq, attempt, text) ~= 1 then
    return 0
  end
  for list, limit in pairs({[kind .. '_logs:' .. job] = most, logs = most_in_all}) do
    if not is_wrong(p .. list, 'list') then
      call('LPUSH', p .. list, seq .. ' ' .. attempt)
      keep_latest(p .. list, limit)
    end
  end
  return 1
end

local function add_skip(job, first, to, number, reason, at, request)
  local seq = call('INCR', p .. 'skip_seq')
  call('HSET', p .. 'skip:' .. seq, 'job_id', job, 'first_due', first, 'due', to, 'count', number,
    'reason', reason, 'request', request, 'term', term, 'at', at)
  call('ZADD', p .. 'skips', seq, seq)
  try('ZADD', p .. 'skips:' .. job, seq, seq)
  add('HINCRBY', totals_of(job), 'skips ' .. reason, number == '' and 100 or number)
  return 1
end

function does.skip(job, first, to, number, reason, at, request, claimed, seen)
  if claimed == '1' then
    local seq, open = run_of(job, first, request)
    if not open then
      return 0
    end
    call('DEL', p .. 'run:' .. seq)
    call('ZREM', p .. 'runs', seq)
    call('ZREM', p .. 'open', seq)
    try('ZREM', p .. 'runs:' .. job, seq)
    call('ZREM', p .. 'run_dues:' .. job, request .. ':' .. seq)
  elseif request == '0' and not account(job, to, first, seen) then
    return 0
  end
  done(request, at, 'skipped', reason, '')
  return add_skip(job, first, to, number, reason, at, request)
end

-- The leader reads the changes since its last version; each writer increments the version at the end.
local function note(job)
  call('ZADD', p .. 'changed', (tonumber(call('GET', p .. 'version')) or 0) + 1, job)
end

-- A job's row that is about to be written anew. What somebody else has put in its place is kept aside.
local function row_of(job)
  local key = p .. 'job:' .. job
  if is_wrong(key, 'hash') then
    call('RENAME', key, p .. 'aside:job:' .. job)
  end
  return key
end

function does.enrol(job, trigger, at, since, rule)
  local key = row_of(job)
  local settled = tonumber(call('HGET', key, 'settled_until') or '')
  if not settled or not (settled >= tonumber(since)) then  -- none, one that cannot be read, or an earlier one
    call('HSET', key, 'settled_until', since)
  end
  call('SADD', p .. 'jobs', job)
  call('SREM', p .. 'removed', job)
  if call('HGET', key, 'removed') == '1' then  -- the job may now be in the code
    call('HDEL', key, 'removed', 'func', 'kwargs', 'options')
  end
  if call('HGET', key, 'new_trigger') ~= trigger then  -- the code decides
    call('HDEL', key, 'new_trigger')
  end
  call('HSET', key, 'trigger', trigger, 'scheduled_since', at)
  call('HDEL', key, 'retired_at')
  close_epoch(job, since)
  try('HSET', p .. 'epochs:' .. job, since, at .. ' ' .. trigger, since .. ':rule', rule)
  try('HDEL', p .. 'epochs:' .. job, since .. ':until')
  try('ZREM', p .. 'closed', since .. ' ' .. job)
  try('HSET', p .. 'epoch', job, since)
  index(job)
  note(job)
  return 1
end

local function leave(job, at)
  row_of(job)
  close_epoch(job, at)
  call('SMOVE', p .. 'jobs', p .. 'removed', job)
  return does.set(job, 'removed', '1')
end

-- A one-shot has one run, and a pool has few open runs: search the shorter of the two lists.
local function has_open_run(job)
  local own = p .. 'runs:' .. job
  local is_shorter = not is_wrong(own, 'zset') and call('ZCARD', own) < call('ZCARD', p .. 'open')
  local few = is_shorter and own or p .. 'open'
  for _, seq in ipairs(call('ZRANGE', few, 0, -1)) do
    if call('ZSCORE', p .. 'open', seq) and call('HGET', p .. 'run:' .. seq, 'job_id') == job then
      return true
    end
  end
  return false
end

function does.finish_job(job, since, settled, at)
  local row = call('HMGET', p .. 'job:' .. job, 'scheduled_since', 'settled_until', 'func', 'removed', 'paused_at')
  local before = tonumber(row[2] or '')
  if row[1] ~= since or not before or before < tonumber(settled) or not row[3] or row[4] == '1' or row[5] then
    return 0
  end
  if has_open_run(job) then
    return 0
  end
  for _, number in ipairs(call('ZRANGE', p .. 'requests', 0, -1)) do
    if call('HGET', p .. 'request:' .. number, 'job_id') == job then
      return 0
    end
  end
  return leave(job, at)
end

function does.retire(job, at)
  close_epoch(job, at)
  return does.set(job, 'retired_at', at, 'broken', '')
end

function does.resumed(job, to)
  local key = p .. 'job:' .. job
  if call('HGET', key, 'resume_at') ~= to then  -- it was paused again since
    return 0
  end
  call('HDEL', key, 'paused_at', 'resume_at')
  local before = tonumber(call('HGET', key, 'settled_until') or '')
  if before and before < tonumber(to) then
    call('HSET', key, 'settled_until', to)
  end
  index(job)
  return 1
end

-- Change fields of an existing job; an empty text removes a field.
function does.set(job, ...)
  local key, changes = p .. 'job:' .. job, {...}
  if redis.call('TYPE', key).ok == 'hash' then
    for place = 1, #changes, 2 do
      if changes[place] ~= '' and changes[place + 1] ~= '' then
        call('HSET', key, changes[place], changes[place + 1])
      elseif changes[place] ~= '' then
        call('HDEL', key, changes[place])
      end
    end
    index(job)
  end
  return 1
end

function does.done(request, at, outcome, reason)
  done(request, at, outcome, reason, '')
  return 1
end
