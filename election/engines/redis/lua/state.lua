-- All that a leader needs at the start of its term, as of one moment; or what of it has changed after a version.
-- ARGV: prefix, how many jobs come at once, version or nothing
local p, at_once, since = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local function each(keys, prefix)
  local found = {}
  for _, key in ipairs(keys) do
    local fields = redis.call('HGETALL', prefix .. key)
    table.insert(fields, 'id')
    table.insert(fields, key)
    table.insert(found, fields)
  end
  return found
end
local requests = redis.call('ZRANGE', p .. 'requests', 0, -1)
local runs = since and {} or redis.call('ZRANGE', p .. 'open', 0, -1)
local jobs, rest = {}, {}
-- Add the jobs that the rows of a kind are about, if they are there.
local function add_jobs_of(keys, prefix)
  for _, key in ipairs(keys) do
    local job = redis.call('HGET', prefix .. key, 'job_id')
    if job and redis.call('EXISTS', p .. 'job:' .. job) == 1 then
      table.insert(jobs, job)
    end
  end
end
if since then
  jobs = redis.call('ZRANGEBYSCORE', p .. 'changed', '(' .. since, '+inf')
  add_jobs_of(requests, p .. 'request:')
else
  local all = redis.call('SMEMBERS', p .. 'jobs')
  if #all <= at_once then
    jobs = all
  else
    local due = {}
    for _, job in ipairs(all) do
      local row = redis.call('HMGET', p .. 'job:' .. job, 'func', 'next_due', 'paused_at', 'broken')
      if row[1] then
        due[job] = (row[3] or row[4]) and math.huge or tonumber(row[2]) or math.huge
        table.insert(rest, job)
      else
        table.insert(jobs, job)
      end
    end
    table.sort(rest, function(one, other)
      if due[one] ~= due[other] then
        return due[one] < due[other]
      end
      return one < other
    end)
    for place = 1, math.min(at_once, #rest) do
      table.insert(jobs, rest[place])
    end
    add_jobs_of(requests, p .. 'request:')
    add_jobs_of(runs, p .. 'run:')
  end
end
return {
  redis.call('GET', p .. 'version') or '0',
  each(jobs, p .. 'job:'),
  each(requests, p .. 'request:'),
  each(runs, p .. 'run:'),
  rest
}
