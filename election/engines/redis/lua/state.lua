-- State that a leader needs at the start of its term, as of one moment; or its changes after a version. After
-- job_index.lua.
-- ARGV: prefix, number of jobs to return at once, version or nothing
local at_once, since = tonumber(ARGV[2]), ARGV[3]
local requests = call('ZRANGE', p .. 'requests', 0, -1)
local runs = since and {} or call('ZRANGE', p .. 'open', 0, -1)
local jobs, rest = {}, {}
-- Add the jobs of these rows, if they exist.
local function add_jobs_of(keys, prefix)
  for _, key in ipairs(keys) do
    local job = call('HGET', prefix .. key, 'job_id')
    if job and call('EXISTS', p .. 'job:' .. job) == 1 then
      table.insert(jobs, job)
    end
  end
end
if since then
  jobs = call('ZRANGEBYSCORE', p .. 'changed', '(' .. since, '+inf')
  add_jobs_of(requests, p .. 'request:')
else
  check_indexes()
  if call('SCARD', p .. 'jobs') <= at_once then
    jobs = call('SMEMBERS', p .. 'jobs')
  else
    jobs = jobs_of_code()
    rest = call('ZRANGEBYSCORE', p .. 'due', 0, '+inf')
    for place = 1, math.min(at_once, #rest) do
      table.insert(jobs, rest[place])
    end
    add_jobs_of(requests, p .. 'request:')
    add_jobs_of(runs, p .. 'run:')
  end
end
return {
  call('GET', p .. 'version') or '0',
  each(jobs, p .. 'job:'),
  each(requests, p .. 'request:'),
  each(runs, p .. 'run:'),
  rest
}
