-- A stretch of runs, looked through for claims that should not be: given twice, late, or to no term.
-- ARGV: prefix, after which run ('-inf', or '(' and its number), runs to look at, the latest term that had claimed
local p, latest = ARGV[1], tonumber(ARGV[4])
local found = {}
local names = redis.call('ZRANGEBYSCORE', p .. 'runs', ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
for _, seq in ipairs(names) do
  local row = redis.call('HMGET', p .. 'run:' .. seq, 'job_id', 'due', 'request', 'term', 'first_term')
  local job, due, request, first = row[1], row[2], row[3], tonumber(row[5])
  local times = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', p .. 'run_dues:' .. job, due, due)) do
    if string.match(member, '^' .. request .. ':') then
      times = times + 1
    end
  end
  if times > 1 then
    table.insert(found, {job, due, request, row[4], times})
  end
  if first < latest then
    table.insert(found, {job, due, request, row[5], 1})
  end
  latest = math.max(latest, first)
  if not redis.call('ZSCORE', p .. 'terms', row[4]) then
    table.insert(found, {job, due, request, row[4], 0})
  end
end
return {names[#names] or false, latest, found}
