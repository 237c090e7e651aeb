-- Commands about terms, requests and stored jobs, and conditions; between entries.lua and write.lua.

function does.known(job)
  local row = call('HMGET', p .. 'job:' .. job, 'trigger', 'retired_at', 'removed')
  if not row[1] or row[2] or row[3] == '1' then
    return redis.error_reply('UNKNOWN job')
  end
  return 1
end

-- Condition: the job is in the state that the caller has read; the fields are those of row_text in rows.py.
function does.expect(job, seen)
  local row = call('HMGET', p .. 'job:' .. job, 'settled_until', 'scheduled_since', 'retired_at', 'removed',
    'paused_at', 'func', 'kwargs', 'options', 'new_trigger')
  for place = 1, #row do
    row[place] = row[place] or ''
  end
  if table.concat(row, '\0') ~= seen then
    return redis.error_reply('CHANGED job')
  end
  return 1
end

function does.pause(job, at)
  if is_wrong(p .. 'job:' .. job, 'hash') then
    return 0
  end
  call('HSETNX', p .. 'job:' .. job, 'paused_at', at)
  call('HDEL', p .. 'job:' .. job, 'resume_at')
  index(job)
  note(job)
  return 1
end

function does.resume(job, at)
  if call('HGET', p .. 'job:' .. job, 'paused_at') then
    call('HSETNX', p .. 'job:' .. job, 'resume_at', at)
    note(job)
  end
  return 1
end

function does.store(job, func, kwargs, options, keep_pause)
  row_of(job)
  if keep_pause == '0' then
    does.set(job, 'paused_at', '', 'resume_at', '')
  end
  note(job)
  return does.set(job, 'func', func, 'kwargs', kwargs, 'options', options, 'removed', '', 'broken', '')
end

-- The leader registers the trigger itself.
function does.reschedule(job, trigger)
  local key = p .. 'job:' .. job
  local row = call('HMGET', key, 'trigger', 'func', 'new_trigger')
  if not row[1] or row[2] then
    return 0
  end
  if not row[3] then
    call('HSET', key, 'code_trigger', row[1])
  end
  note(job)
  return does.set(job, 'new_trigger', trigger)
end

function does.remove(job, at)
  note(job)
  return leave(job, at)
end

-- Settle only up to now: a clock that was ahead has settled ticks that are not due yet.
function does.accept_time(job, at, reason)
  local key = p .. 'job:' .. job
  local settled = tonumber(call('HGET', key, 'settled_until') or '')
  if not settled or settled <= tonumber(at) then
    return 0
  end
  call('HSET', key, 'settled_until', at)
  index(job)
  return add_skip(job, at, at, '0', reason, at, '0')
end

-- A copy of a server's data cannot be distinguished from the original.
function does.adopt()
  return 0
end

function does.request(action, job, of, at, kwargs)
  local number = call('INCR', p .. 'request_seq')
  call('HSET', p .. 'request:' .. number, 'action', action, 'job_id', job, 'term', of, 'at', at)
  if kwargs ~= '' then
    call('HSET', p .. 'request:' .. number, 'kwargs', kwargs)
  end
  call('ZADD', p .. 'requests', number, number)
  return number
end

-- who has made the change before it in the same write; that is the latest request, if it is a request
function does.audit(action, job, at, by, before, after, of_request)
  local seq = call('INCR', p .. 'audit_seq')
  local number = of_request == '1' and call('GET', p .. 'request_seq') or ''
  call('HSET', p .. 'audit:' .. seq, 'action', action, 'job_id', job, 'at', at, 'by', by, 'before', before,
    'after', after, 'request', number)
  try('ZADD', p .. 'audits', seq, seq)
  if job ~= '' then
    try('ZADD', p .. 'audits:' .. job, seq, seq)
  end
  return 1
end

-- Increment the version by which the leader detects a write.
function does.change()
  return call('INCR', p .. 'version')
end

function does.begin(pid, boot, host, at, ns, reason, from_pid, vacant)
  local key = p .. 'term:' .. term
  local row = call('HMGET', key, 'pid', 'boot_id', 'host')
  if row[1] and (row[1] ~= pid or row[2] ~= boot or row[3] ~= host) then
    return redis.error_reply('BEGUN ' .. row[1])
  end
  if not row[1] then
    call('HSET', key, 'pid', pid, 'boot_id', boot, 'host', host, 'began_at', at, 'began_ns', ns,
      'reason', reason, 'from_pid', from_pid)
    call('ZADD', p .. 'terms', term, term)
    add('HINCRBY', p .. 'totals', 'terms ' .. reason, 1)
    add('HINCRBYFLOAT', p .. 'totals', 'vacant ' .. reason, vacant)
  end
  call('SET', p .. 'term', term)
  return 1
end

-- Record the end of the term before, if its own leader could not.
function does.ended(pid, standing, at)
  local before = call('ZREVRANGEBYSCORE', p .. 'terms', '(' .. term, '-inf', 'LIMIT', 0, 1)[1]
  local key = p .. 'term:' .. (before or '')
  local row = call('HMGET', key, 'pid', 'standing', 'began_at')
  if row[1] == pid and not row[2] then
    local began = tonumber(row[3])
    call('HSET', key, 'standing', standing, 'ended_at', began and tonumber(at) < began and row[3] or at)
  end
  return 1
end

function does.confirm(number, ms)
  local key = p .. 'term:' .. number
  if call('EXISTS', key) == 1 then
    if call('HSETNX', key, 'takeover_ms', ms) == 1 then
      count(p .. 'totals', 'takeover', tonumber(ms) / 1000)
    end
  end
  return 1
end

function does.finish(number, at, ns, standing)
  local key = p .. 'term:' .. number
  if call('EXISTS', key) == 1 then
    call('HSET', key, 'ended_at', at, 'ended_ns', ns, 'standing', standing)
  end
  return 1
end

function does.fence(number, intent, at, since, after)
  local before = tonumber(not is_wrong(p .. 'fenced_at', 'string') and call('GET', p .. 'fenced_at') or '')
  if before and before > tonumber(since) and before < tonumber(after) then
    return 0
  end
  call('SET', p .. 'fenced_at', at)
  try('HSET', p .. 'fences', number, intent)
  return 1
end
