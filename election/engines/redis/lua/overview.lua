-- A bounded number of jobs, and the latest time up to which any job is settled; after job_index.lua.
-- ARGV: prefix, limit
check_indexes()
local limit = tonumber(ARGV[2])
local known, here, gone = {}, {}, {}
for _, job in ipairs(jobs_of_code()) do
  local row = call('HMGET', p .. 'job:' .. job, 'retired_at', 'broken')
  table.insert(row[1] and gone or here, job)
  if not row[1] then
    table.insert(known, job)
    table.insert(known, row[2] or '')
  end
end
for _, job in ipairs(gone) do
  table.insert(here, job)
end
while #here > limit do
  table.remove(here)
end
return {
  known,
  each(here, p .. 'job:'),
  each(call('ZRANGEBYSCORE', p .. 'due', 0, '+inf', 'LIMIT', 0, limit), p .. 'job:'),
  call('ZCOUNT', p .. 'due', 0, '+inf'),
  call('ZREVRANGE', p .. 'settled', 0, 0, 'WITHSCORES')[2] or ''
}
