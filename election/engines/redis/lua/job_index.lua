-- Indexes of the live jobs, derived from their rows: `due` has jobs of the code at -1, and jobs that were added at run
-- time at their due time; `ids` has all by id; `settled` has the time up to which the ticks of each job are settled.
-- The indexes are rebuilt if an earlier version has written.
-- ARGV: prefix
local p = ARGV[1]

local function index(job)
  local row = call('HMGET', p .. 'job:' .. job, 'removed', 'func', 'next_due', 'paused_at', 'broken', 'settled_until',
    'retired_at')
  if row[1] == '1' or call('EXISTS', p .. 'job:' .. job) == 0 then
    call('ZREM', p .. 'due', job)
    call('ZREM', p .. 'ids', job)
    try('ZREM', p .. 'settled', job)
    return
  end
  local due = tonumber(row[3])
  if not row[2] then
    due = '-1'
  elseif row[4] or row[5] or not due or due ~= due then
    due = '+inf'
  else
    due = due < 0 and '0' or row[3]
  end
  call('ZADD', p .. 'due', due, job)
  call('ZADD', p .. 'ids', 0, job)
  if tonumber(row[6]) and not row[7] then
    try('ZADD', p .. 'settled', row[6], job)
  else
    try('ZREM', p .. 'settled', job)
  end
end

local function check_indexes()
  local count = call('SCARD', p .. 'jobs')
  local are_ours = not (is_wrong(p .. 'due', 'zset') or is_wrong(p .. 'ids', 'zset') or is_wrong(p .. 'settled', 'zset'))
  if are_ours and call('ZCARD', p .. 'due') == count and call('ZCARD', p .. 'ids') == count then
    return
  end
  call('DEL', p .. 'due', p .. 'ids', p .. 'settled')
  for _, job in ipairs(call('SMEMBERS', p .. 'jobs')) do
    index(job)
    if call('EXISTS', p .. 'job:' .. job) == 0 then
      call('SREM', p .. 'jobs', job)
    end
  end
end

local function jobs_of_code()
  return call('ZRANGEBYSCORE', p .. 'due', '-inf', '(0')
end

-- The fields of rows, each with its key as `id`.
local function each(keys, prefix)
  local found = {}
  for _, key in ipairs(keys) do
    local fields = call('HGETALL', prefix .. key)
    local dues = p .. 'run_dues:' .. key
    if prefix == p .. 'job:' and is_wrong(dues, 'zset') then
      fields = {wrong, dues}
    end
    table.insert(fields, 'id')
    table.insert(fields, key)
    table.insert(found, fields)
  end
  return found
end
