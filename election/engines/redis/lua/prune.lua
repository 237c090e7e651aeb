-- Removes old history; keeps settled_until, so that nothing runs twice (P3).
-- ARGV: prefix, before, rows to remove at most, rows to scan, first and last time that can be converted
local p, before, at_most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local touched = {}

-- Time of a text, or nil: a row without a readable time stays, unless another of its times tells its age.
local function time_of(text)
  local time = tonumber(text or '')
  return time and time >= tonumber(ARGV[5]) and time <= tonumber(ARGV[6]) and time or nil
end

local function drop(kind, keep)
  local gone = 0
  for _, seq in ipairs(try('ZRANGE', p .. kind .. 's', 0, ARGV[4] - 1)) do
    local row = call('HMGET', p .. kind .. ':' .. seq, 'job_id', 'at', keep, 'request')
    local at = time_of(row[2])
    if at and at < before and row[3] then
      local job = row[1] or ''
      call('DEL', p .. kind .. ':' .. seq)
      if kind == 'run' then
        call('DEL', p .. 'log:' .. seq)
        try('ZREM', p .. 'run_dues:' .. job, (row[4] or 0) .. ':' .. seq)
      end
      call('ZREM', p .. kind .. 's', seq)
      try('ZREM', p .. 'troubled', seq)
      try('ZREM', p .. kind .. 's:' .. job, seq)
      touched[job] = true
      gone = gone + 1
      if gone == at_most then
        break
      end
    end
  end
  return gone
end

local gone = drop('run', 'outcome')
local skips = drop('skip', 'reason')
gone = gone + skips
local history = gone
gone = gone + drop('audit', 'action')

local oldest = call('ZRANGE', p .. 'runs', 0, 0)[1]
local first_term = oldest and tonumber(call('HGET', p .. 'run:' .. oldest, 'first_term'))
local terms = call('ZRANGE', p .. 'terms', 0, at_most)
for place, number in ipairs(terms) do  -- terms of dead leaders have no end; those that a run refers to stay
  local row = call('HMGET', p .. 'term:' .. number, 'ended_at', 'began_at')
  local time = time_of(row[1]) or time_of(row[2])
  if place == #terms or (time and time >= before) or (first_term and tonumber(number) >= first_term) then
    break
  end
  if time then
    call('DEL', p .. 'term:' .. number)
    call('ZREM', p .. 'terms', number)
    gone = gone + 1
    history = history + 1
  end
end

for _, request in ipairs(try('ZRANGEBYSCORE', p .. 'done', '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])) do
  call('DEL', p .. 'request:' .. request)
  call('ZREM', p .. 'done', request)
end
for _, epoch in ipairs(try('ZRANGEBYSCORE', p .. 'closed', '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local since, job = string.match(epoch, '^(%-?%d+) (.*)$')
  if since then
    try('HDEL', p .. 'epochs:' .. job, since, since .. ':until', since .. ':rule')
  end
  call('ZREM', p .. 'closed', epoch)
end

if history > 0 then
  if (tonumber(call('GET', p .. 'pruned') or '0') or 0) < before then
    call('SET', p .. 'pruned', ARGV[2])
  end
  for job in pairs(touched) do  -- otherwise the counters of ids that are used once would stay for ever
    local row = call('HMGET', p .. 'job:' .. job, 'removed', 'retired_at')
    local retired_at = time_of(row[2])
    local past = row[1] == '1' or (retired_at and retired_at < before)
    if past and call('EXISTS', p .. 'runs:' .. job, p .. 'skips:' .. job) == 0 then
      try('SREM', p .. 'counted', job)
      call('DEL', p .. 'totals:' .. job, p .. 'failed_logs:' .. job, p .. 'other_logs:' .. job)
    end
  end
end
return gone
