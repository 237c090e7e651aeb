-- All that a leader needs at the start of its term, as of one moment; or what of it has changed after a version.
-- ARGV: prefix, version or nothing
local p, since = ARGV[1], ARGV[2]
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
local jobs
if since then
  jobs = redis.call('ZRANGEBYSCORE', p .. 'changed', '(' .. since, '+inf')
  for _, request in ipairs(requests) do
    local job = redis.call('HGET', p .. 'request:' .. request, 'job_id')
    if job and redis.call('EXISTS', p .. 'job:' .. job) == 1 then
      table.insert(jobs, job)
    end
  end
else
  jobs = redis.call('SMEMBERS', p .. 'jobs')
end
return {
  redis.call('GET', p .. 'version') or '0',
  each(jobs, p .. 'job:'),
  each(requests, p .. 'request:'),
  each(since and {} or redis.call('ZRANGE', p .. 'open', 0, -1), p .. 'run:')
}
